"""Plans, scores and statuses of context attribution."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.separation import auc
from tests.stats.planted import Planted
from tracelab.core.errors import PlanError
from tracelab.core.unit import Unit
from tracelab.stats.masks import Design, bernoulli, concatenate, leave_one_out
from tracelab.studies.cite.ablations import TokenRange
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.ablate import attribute
from tracelab.studies.cite.methods.context_cite import published
from tracelab.studies.cite.methods.leave_one_out import removals
from tracelab.studies.cite.plan import Knowledge, plan


def spans(n: int) -> list[Unit]:
    return [Unit("span", i, i, i + 1, i, i + 1, "x") for i in range(n)]


def make(n: int, target: str = "a", level: float = 0.95) -> SpanScores:
    return SpanScores("t", spans(n), "any", target, level)


def by(method: str, n: int, design: Design, y: np.ndarray, rng: np.random.Generator) -> Attribution:
    if method == "context-cite":
        return published(make(n), design, y, tokens=9)
    return attribute(make(n), design, y, rng=rng)


def follow(question: object, y: Callable[[np.ndarray], np.ndarray]) -> tuple[Design, np.ndarray]:
    parts, values = [next(question)], []  # type: ignore[call-overload]
    while True:
        values.append(y(parts[-1].masks))
        try:
            parts.append(question.send(values[-1]))  # type: ignore[attr-defined]
        except StopIteration:
            return concatenate(parts), np.concatenate(values)


@pytest.mark.parametrize(
    ("n", "budget"), [(1, 5), (3, 64), (20, 64), (500, 32), (500, 64), (90, 7)]
)
def test_plans_keep_to_their_budget_and_their_rng(n: int, budget: int) -> None:
    groups = (np.arange(n) // 20, np.arange(n) // 5)

    def masks(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        question = plan(n, budget, rng=rng, knowledge=Knowledge(groups))
        return follow(question, lambda m: m @ np.linspace(-1, 1, n))[0].masks

    assert masks(0).shape == (min(budget, 2**n), n)
    assert np.array_equal(masks(0), masks(0))


def test_hierarchical_plans_open_what_acts() -> None:
    n = 300
    groups = (np.arange(n) // 20, np.arange(n) // 5)
    truth = np.zeros(n)
    truth[[43, 47]] = 4.0
    design, y = follow(
        plan(n, 40, rng=np.random.default_rng(0), knowledge=Knowledge(groups)),
        lambda m: m @ truth,
    )
    assert design.alone()[-1][40:60].all() and not design.alone()[0].any()
    out = attribute(make(n), design, y, rng=np.random.default_rng(0))
    assert set(np.argsort(-out.weights)[:2]) == {43, 47}
    effect = [s for s in out.scores if s.metric == "effect"]
    assert effect[43].status == "ok" and effect[43].value == pytest.approx(4, abs=1)
    closed = [s for s in effect if s.status == "insufficient"]
    assert closed and all(s.value is None and s.lo is None for s in closed)
    assert all("neighbours" in str(s.extra["reason"]) for s in closed)


@pytest.mark.slow
def test_a_width_stops_early_and_still_covers() -> None:
    sizes, hits = [], []
    for c in range(8):
        rng = np.random.default_rng(c)
        w = Planted(20, rng)
        design, y = follow(plan(20, 160, rng=rng, width=1.8, level=0.9), w.y)
        sizes.append(len(design))
        truth = w.truth(rng, 1000)
        found = attribute(make(20, level=0.9), design, y, rng=rng).scores[:20]
        hits += [s.lo <= t <= s.hi for s, t in zip(found, truth, strict=True)]  # type: ignore[operator]
    assert min(sizes) < 160 and np.mean(sizes) < 130
    assert 0.82 < np.mean(hits) < 0.98


def test_nothing_to_ablate_is_a_plan_error() -> None:
    with pytest.raises(PlanError, match="no source"):
        next(plan(0, 8, rng=np.random.default_rng(0)))
    with pytest.raises(PlanError, match="at least one"):
        next(plan(3, 0, rng=np.random.default_rng(0)))


def test_targets_share_their_log_probabilities() -> None:
    rng = np.random.default_rng(0)
    design = bernoulli(6, 40, rng)
    logprobs = -3 + design.masks @ rng.normal(0, 0.3, (6, 10)) - 2
    targets = [
        TokenRange("sentence:0", 0, 4),
        TokenRange("sentence:1", 4, 10),
        TokenRange("contrast:0", 0, 4, rather_than=(4, 10)),
    ]
    scores = [
        s for t in targets
        for s in attribute(make(6, t.name), design, t.outcome(logprobs), rng=rng).scores
    ]  # fmt: skip
    assert len(scores) == 3 * 2 * 6
    assert {s.target for s in scores} == {t.name for t in targets}
    assert {s.evidence for s in scores} == {"scored"}
    # log p << 1: log-odds are log-probabilities, and effects of a contrast are differences.
    by = {(s.target, s.metric, s.unit_index): s.value for s in scores}
    for j in range(6):
        gap = by["sentence:0", "effect", j] - by["sentence:1", "effect", j]  # type: ignore[operator]
        assert by["contrast:0", "effect", j] == pytest.approx(gap, abs=0.05)


@pytest.mark.parametrize("method", ["ablate", "context-cite"])
def test_failed_masks_are_left_out_and_counted(method: str) -> None:
    rng = np.random.default_rng(0)
    w = Planted(20, rng)
    design = bernoulli(20, 40, rng)
    y = w.y(design.masks)
    y[::4] = np.nan
    kept = np.isfinite(y)

    def run(d: Design, v: np.ndarray) -> list[float | None]:
        out = by(method, 20, d, v, np.random.default_rng(1))
        assert out.n == 30
        return [s.value for s in out.scores]

    assert run(design, y) == run(design.select(kept), y[kept])
    full = by(method, 20, design, y, rng)
    assert full.failed == 10 and full.scores[0].extra["failed"] == 10


@pytest.mark.parametrize("method", ["ablate", "context-cite"])
@pytest.mark.parametrize("left", [0, 1, 7])
def test_too_few_masks_are_insufficient(method: str, left: int) -> None:
    rng = np.random.default_rng(0)
    design = bernoulli(20, 16, rng)
    y = np.full(16, np.nan)
    y[:left] = -1.0
    out = by(method, 20, design, y, rng)
    assert {(s.status, s.value, s.lo, s.hi) for s in out.scores} == {
        ("insufficient", None, None, None)
    }
    assert np.isnan(out.weights).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_small_contexts_are_measured_exactly(n: int) -> None:
    rng = np.random.default_rng(0)
    design = bernoulli(n, 64, rng)
    y = design.masks @ np.arange(1.0, n + 1)
    out = attribute(make(n), design, y, rng=rng).scores[:n]
    assert [s.value for s in out] == pytest.approx(list(range(1, n + 1)))
    assert all(s.lo == s.hi == s.value for s in out)


def test_leave_one_out_misses_what_is_said_twice() -> None:
    n, rng = 12, np.random.default_rng(0)

    def y(masks: np.ndarray) -> np.ndarray:
        return np.asarray(-5.0 + 4.0 * (masks[:, 2] | masks[:, 7]) + 2.0 * masks[:, 4])

    once, random = leave_one_out(n), bernoulli(n, 64, rng)
    both = concatenate([once, random])
    values = y(both.masks)
    values[5] = np.nan  # the mask without source 3
    loo = removals(make(n), both, values)
    assert loo.scores[2].value == loo.scores[7].value == 0 and loo.scores[4].value == 2
    assert loo.scores[3].status == "insufficient" and loo.scores[3].value is None
    found = attribute(make(n), both, values, rng=rng)
    matters = np.isin(np.arange(n), [2, 4, 7])
    assert auc(found.weights[matters], found.weights[~matters]) == 1
    effect = found.scores[:n]
    assert all(effect[j].lo > 0.5 for j in (2, 4, 7))  # type: ignore[operator]
