from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from tracelab.core.finding import Score
from tracelab.core.item import Outcome, Rollout
from tracelab.core.unit import Unit
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.published.figures import FORCED_METRICS, METRICS
from tracelab.studies.anchors.published.recipe import SETTINGS
from tracelab.studies.anchors.published.scores import METHOD, links, scores


def units() -> list[Unit]:
    """Three sentences of two tokens each."""
    return [Unit("sentence", i, 4 * i, 4 * i + 4, 2 * i, 2 * i + 2, f" s{i}.") for i in range(3)]


def rollout(
    start: int,
    diverge: int,
    similarity: float | None = None,
    echoes: int | None = None,
    answer: str = "7",
    reward: float | None = 1.0,
    status: str = "graded",
    own: str | None = "own",
    key: str = "k",
) -> Rollout:
    outcome = Outcome(answer=answer, reward=reward, status=status)  # type: ignore[arg-type]
    return Rollout(key, 0, start // 2, start, diverge, outcome, 5, own, similarity, echoes)


def by_name(found: list[Score]) -> dict[tuple[int, str], Score]:
    assert {s.method for s in found} == {METHOD}
    assert len({(s.unit_index, s.metric) for s in found}) == len(found)
    return {(s.unit_index, s.metric): s for s in found}


ROLLOUTS = [
    rollout(0, 1, 0.1, answer="8", reward=0.0, own="other"),
    rollout(0, 0, 0.9, own="other"),
    rollout(0, 3, 0.1),  # wrote sentence 0 as it is, then left: similar, and not " other"
    rollout(0, 0, 0.2, answer="unanswered", reward=0.0, status="unanswered"),
    rollout(2, 2, 0.3),
    rollout(2, 2, 0.3, answer="x", reward=None, status="ungraded"),
    rollout(4, 4, 0.3),
    rollout(6, 6, None),  # the end of the trace: no published figure looks at it
]


def test_figures_of_rollouts_by_hand() -> None:
    found = by_name(scores("t", units(), ROLLOUTS))
    assert {m for _, m in found} == set(METRICS)
    assert found[0, "accuracy"].value == pytest.approx(2 / 3)
    assert found[0, "accuracy"].n == 3
    gain = found[0, "resampling_importance_accuracy"]
    assert (gain.value, gain.n, gain.lo, gain.hi) == (pytest.approx(1 / 3), 4, None, None)
    assert found[0, "counterfactual_importance_accuracy"].value == -1.0
    assert found[0, "different_trajectories_fraction"].value == pytest.approx(1 / 3)
    assert found[0, "overdeterminedness"].value == pytest.approx(1 / 3)
    assert found[2, "accuracy"].value == 1.0
    last = found[2, "resampling_importance_accuracy"]
    assert (last.value, last.status) == (0.0, "ok") and "zero_because" in last.extra


def test_what_was_not_measured_is_not_zero() -> None:
    found = by_name(scores("t", units(), [rollout(0, 0, None, own=None), rollout(4, 4, 0.9)]))
    assert found[0, "accuracy"].value == 1.0
    for metric in METRICS:
        score = found[1, metric]
        assert (score.status, score.value) == ("insufficient", None), metric
    for metric in ("different_trajectories_fraction", "overdeterminedness"):
        assert found[0, metric].value is None
        assert found[0, metric].extra["reason"]


def test_no_different_rollout_is_the_published_zero_and_says_so() -> None:
    found = by_name(scores("t", units(), [rollout(0, 0, 0.9), rollout(2, 2, 0.9)]))
    score = found[0, "counterfactual_importance_accuracy"]
    assert (score.value, score.status) == (0.0, "ok")
    assert score.extra["zero_because"] == "no rollout is different"


def test_forced_figures() -> None:
    forced = [rollout(0, 0, answer="8", reward=0.0), rollout(2, 2), rollout(4, 4)]
    found = by_name(scores("t", units(), ROLLOUTS, forced=forced))
    assert {m for _, m in found} == {*METRICS, *FORCED_METRICS}
    assert found[0, "forced_importance_accuracy"].value == 1.0
    assert found[1, "forced_importance_kl"].value == 0.0
    # 7 and 7.0 are categories of their own.
    pair = [rollout(0, 0, 0.1, key="a"), rollout(2, 2, 0.1, answer="7.0", key="b")]
    apart = by_name(scores("t", units(), pair))
    assert apart[0, "resampling_importance_kl"].value > 10


def test_the_threshold_is_an_argument_and_is_stored() -> None:
    found = by_name(scores("t", units(), ROLLOUTS, threshold=0.95))
    score = found[0, "different_trajectories_fraction"]
    assert score.value == pytest.approx(2 / 3) and score.extra["threshold"] == 0.95


def test_the_warehouse_takes_them() -> None:
    """NULL ends of an interval, the zeros and the missing ones pass the table's constraints."""
    duckdb = pytest.importorskip("duckdb")
    sql = Path(__file__).parents[3] / "warehouse/migrations/0001_initial.sql"
    con = duckdb.connect()
    con.execute(sql.read_text())
    for s in scores("t", units(), ROLLOUTS[:4], forced=[]):
        row = {**asdict(s), "extra": json.dumps(s.extra), "run_id": "r", "estimator_version": "1"}
        con.execute(
            f"INSERT INTO scores ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})",
            list(row.values()),
        )
    checks = Path(__file__).parents[3] / "warehouse/checks"
    for name in ("scores_intervals", "scores_missing_are_null", "scores_finite"):
        assert con.execute((checks / f"{name}.sql").read_text()).fetchall() == []
    assert con.execute("SELECT count(*) FROM scores").fetchone() == (27,)


def test_links_are_the_matrix_above_its_diagonal() -> None:
    rollouts = [
        rollout(0, 0, 0.1, echoes=0b100),
        rollout(0, 0, 0.1, echoes=0b010),
        rollout(2, 2, 0.9, echoes=0b100),
    ]
    found = {(k.from_index, k.to_index): k for k in links("t", units(), rollouts)}
    assert set(found) == {(0, 1), (0, 2), (1, 2)}
    assert (found[0, 1].value, found[0, 1].n) == (0.5, 3)  # said by all of 1, by half of 2
    assert found[0, 2].value == 0.5
    assert (found[1, 2].value, found[1, 2].status) == (None, "insufficient")


def test_the_settings_are_settings() -> None:
    config = AnchorsOptions.model_validate(SETTINGS)
    assert (config.allocation, config.rollouts, config.threshold) == ("uniform", 100, 0.8)
