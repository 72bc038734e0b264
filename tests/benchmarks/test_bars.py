"""The card's bars: estimators against direct definitions, verdicts on both sides of a bar."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.testbed.bars import (
    ContextEffect,
    FillerEffect,
    Measured,
    context_rows,
    filler_rows,
    rows,
    separation,
    single_causes,
    wrong_plan_cost,
)
from benchmarks.testbed.card import number, table, verdict
from benchmarks.testbed.figures import Count

N = 2000


def fillers(effect: float, count: int = 400, seed: int = 0) -> list[FillerEffect]:
    rng = np.random.default_rng(seed)
    value = rng.uniform(0.2, 0.8, count)
    signs = rng.choice((-1, 1), count)
    before, after = rng.binomial(N, value), rng.binomial(N, value + signs * effect)
    return [FillerEffect(int(b), int(a), N) for b, a in zip(before, after, strict=True)]


def test_filler_without_effect_passes_and_with_effect_fails() -> None:
    size, z = filler_rows(fillers(0.0))
    assert size.passed
    assert z.passed
    assert z.lo < 1 < z.hi
    size, z = filler_rows(fillers(0.05))
    assert size.value == pytest.approx(0.05, abs=0.005)
    assert not size.passed
    assert not z.passed


def test_effects_at_decided_answers_have_no_z_score() -> None:
    decided = [FillerEffect(0, 0, N), FillerEffect(N, N, N)]
    assert all(f.error > 0 and not f.open for f in decided)
    assert filler_rows([*fillers(0.0, 50), *decided])[1].n == 50


def test_auc_is_the_share_of_ordered_pairs() -> None:
    rng = np.random.default_rng(0)
    effects = [
        ContextEffect(i % 5, kind, float(x), 0.0)
        for kind, shift in (("needed", 1.0), ("distractor", 0.0))
        for i, x in enumerate(rng.normal(shift, 1, 30).round(1))
    ]
    needed, other = ([e.drop for e in effects if e.kind == k] for k in ("needed", "distractor"))
    direct = np.mean([(a > b) + 0.5 * (a == b) for a in needed for b in other])
    assert separation(effects) == pytest.approx(direct)
    row = context_rows(effects)[0]
    assert row.n == 5
    assert row.lo <= row.value <= row.hi


def test_the_cost_of_a_wrong_plan_is_value_before_minus_value_after() -> None:
    counts = {
        "accuracy after plan_right, phrasing 1": Count(210, 300),
        "accuracy after plan_wrong, phrasing 1": Count(10, 100),
    }
    row = wrong_plan_cost(counts)
    assert row.value == pytest.approx(220 / 400 - 10 / 100)
    assert row.lo < row.value < row.hi
    assert row.passed


def test_single_causes_count_in_four_hundred_episodes() -> None:
    counts = {
        "failures with a single planted cause": Count(150, 170),
        "agent success": Count(330, 500),
    }
    row = single_causes(counts)
    assert row.value == pytest.approx(120)
    assert row.passed


def test_nothing_measured_passes_no_bar() -> None:
    found = rows(Measured({}))
    assert {r.passed for r in found} == {False, None}
    assert "**FAIL**" in table(found)
    assert verdict(found).startswith("0 of")
    assert number(float("nan")) == ""
