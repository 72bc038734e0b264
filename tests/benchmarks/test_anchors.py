"""What the anchors benchmark computes from rollouts, on values known by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from benchmarks.anchors import published, replay
from benchmarks.anchors.reference import Reference, match
from benchmarks.anchors.replay import PUBLISHED, Curve, Judged, Point, Pool
from benchmarks.separation import auc
from tests.studies.anchors.test_rounds import cases_of
from tests.studies.context import Answering, scripted, world
from tracelab.core.errors import TracelabError
from tracelab.core.finding import Score
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Observation
from tracelab.core.unit import Unit
from tracelab.engines.scripted import Script
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.rounds import sample


def reference(delta: list[float], se: float = 0.0) -> Reference:
    value = np.concatenate([[0.5], 0.5 + np.cumsum(delta)])
    n = len(delta)
    return Reference(
        "t", value, np.full(n + 1, se), np.array(delta), np.full(n, se), ("filler",) * n, 2000
    )


def score(i: int, value: float | None, half: float = 0.1, status: str = "ok") -> Score:
    lo, hi = (None, None) if value is None else (value - half, value + half)
    return Score("t", "sentence", i, "resample", "delta_value", value, lo, hi, 0.95, 9, status)  # type: ignore[arg-type]


def test_errors_coverage_and_what_was_missed() -> None:
    judged = Judged()
    judged.add([score(0, 0.3), score(1, 0.0), score(2, None, status="insufficient")],
               reference([0.5, 0.05, -0.4]))  # fmt: skip
    point = judged.point(10.0)
    assert point.rmse == pytest.approx(np.sqrt((0.2**2 + 0.05**2 + 0.4**2) / 3))
    assert point.coverage == 0.5
    assert point.insufficient == pytest.approx(1 / 3)
    assert point.f1 == pytest.approx(2 * 1 / (1 + 2))


def test_the_references_own_noise_is_taken_out() -> None:
    judged = Judged()
    judged.add([score(0, 0.3)], reference([0.4], se=0.06))
    assert judged.point(1.0).rmse == pytest.approx(np.sqrt(0.1**2 - 0.06**2))


def test_an_interval_covers_within_both_widths() -> None:
    assert replay.covers(score(0, 0.0, 0.1), 0.1, 0.0)
    assert not replay.covers(score(0, 0.0, 0.1), 0.12, 0.0)
    assert replay.covers(score(0, 0.0, 0.1), 0.12, 0.05)


def test_tokens_at_an_error_are_interpolated_on_log_scales() -> None:
    def point(tokens: float, rmse: float) -> Point:
        return Point(tokens, rmse, 0.95, 0.95, 1, 1, 0)

    curve = Curve("x", [point(100, 0.2), point(400, 0.1), point(1600, 0.05)])
    assert replay.tokens_at(curve, 0.1) == pytest.approx(400)
    assert replay.tokens_at(curve, 0.1 * 2**0.5) == pytest.approx(200)
    assert replay.tokens_at(curve, 0.01) is None


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == 0.875


def test_auc_of_nothing_is_unknown_and_what_cannot_be_said_ranks_last() -> None:
    assert auc([], [1.0]) is None and auc([1.0], []) is None
    assert auc([-5.0], [np.nan]) == 1 and auc([np.nan], [-5.0]) == 0
    assert auc([np.nan], [np.nan]) == 0.5


SCRIPT = Script.planted()


def sampled(options: AnchorsOptions) -> Pool:
    """Two traces of a script under some options, asked of an engine."""
    w = world(options, script=SCRIPT)
    cases = cases_of(SCRIPT, 2, w)
    engine = Answering(scripted(SCRIPT))
    seen: dict[tuple[str, int], Observation] = {}

    def answer(items: Sequence[AnyItem]) -> Iterator[Sequence[Observation]]:
        for batch in engine(items):
            seen.update({(o.key, o.replicate): o for o in batch})
            yield batch

    drive(sample(Cohort(cases, w.ctx)), answer)
    return Pool(cases, [reference([0.1] * len(c.units)) for c in cases], w.ctx, seen)


@pytest.fixture(scope="module")
def pool() -> Pool:
    """The published recipe's rollouts."""
    return sampled(AnchorsOptions(allocation="uniform", rollouts=PUBLISHED))


def drawn(cases: Sequence[Reasoning]) -> list[list[tuple[str, int, int, float | None]]]:
    return [
        sorted((r.item_key, r.replicate, r.n_tokens, r.outcome.reward) for r in c.rollouts)
        for c in cases
    ]


@pytest.mark.parametrize(
    "options",
    [
        AnchorsOptions(allocation="uniform", rollouts=7),
        AnchorsOptions(rollouts=PUBLISHED, target_halfwidth=0.001, budget_tokens=2000),
    ],
)
def test_a_replay_draws_what_a_run_of_its_own_would_have(
    pool: Pool, options: AnchorsOptions
) -> None:
    assert drawn(pool.replay(options, 0)) == drawn(sampled(options).cases)


def test_repetitions_begin_in_other_places_of_the_pool(pool: Pool) -> None:
    options = AnchorsOptions(allocation="uniform", rollouts=3)
    for case in pool.replay(options, 2):
        assert {r.replicate for r in case.rollouts} == {24, 25, 26}


def test_a_curve_has_a_point_for_every_budget(pool: Pool) -> None:
    budgets = [0.1 * pool.tokens(), 0.2 * pool.tokens()]
    adaptive = next(v for v in replay.variants() if v.name == "all")
    found = replay.curve(pool, adaptive, 1, budgets)
    assert [p.tokens for p in found.points] == pytest.approx(budgets, rel=0.25)
    uniform = replay.curve(pool, replay.variants()[0], 1, budgets)
    assert uniform.points[-1].tokens == pool.tokens()


def test_references_that_were_cut_elsewhere_are_refused() -> None:
    units = [Unit("sentence", 0, 0, 3, 0, 1, "One")]
    row = {"value": 0.5, "value_se": 0.01, "role": "filler", "n": 2000}
    with pytest.raises(TracelabError, match="not those of the reference"):
        match("t", units, [{**row, "text": "Two"}, {**row, "text": ""}])
    found = match("t", units, [{**row, "text": " One"}, {**row, "text": "rest"}])
    assert found.delta.tolist() == [0.0]


def test_pooling_pays_on_curves_that_move_in_jumps() -> None:
    rng = np.random.default_rng(3)
    value = np.where(np.arange(60) < 25, 0.3, np.where(np.arange(60) < 40, 0.8, 1.0))
    known = published.Known(value, np.linspace(600, 10, 60))
    found = published.replay([known, known], rng, share=0.1)
    assert found["cost_ratio_at_equal_rmse"] > 10
