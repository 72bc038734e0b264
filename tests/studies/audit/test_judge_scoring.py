"""Scoring is exact matching, failures are counted, and intervals cover."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tracelab.core.episode import Episode, Label, Step
from tracelab.studies.audit.opinions.floors import Guess
from tracelab.studies.audit.opinions.judges import Opinion
from tracelab.studies.audit.opinions.parse import exact_step
from tracelab.studies.audit.opinions.scoring import (
    best_floor,
    compare,
    score_guess,
    score_opinion,
    score_prediction,
    summarise,
)

N = 12
ADVERSARIAL = [
    "1", "10", "1 2 3", "1,2", "12", "011", "01", "1.0", "1e0", "+1", "-1", " 1 ", "1\n2",
    "Step 1", "step: 1", "1)", "#1", '{"step": 1}', "[1]", "one", "eins", "第1步", "１", "١",
    "१", "Ⅰ", "²", "", "None", "null", "nan", "99", "1" * 40, "1_0", "0x1", "0 1", "0123456789",
    "True", "1\x00", "\u200b1",
]  # fmt: skip


def run(step: int | None, agent: str | None = "A") -> Episode:
    steps = tuple(Step(i, "llm", agent="A" if i % 2 else "B") for i in range(N))
    return Episode("e", steps, "x", label=Label(step, agent))


@pytest.mark.parametrize("given_step", ADVERSARIAL)
@pytest.mark.parametrize("gold", [0, 1, 10])
def test_text_is_right_exactly_when_it_is_the_label(given_step: str, gold: int) -> None:
    score = score_prediction(given_step, "A", run(gold))
    assert score.step == float(given_step.strip() == str(gold))
    # The published evaluator's test would call some of these right:
    assert str(gold) in given_step or score.step == 0.0


anything = st.text(max_size=6) | st.integers() | st.none() | st.booleans() | st.floats()


@given(anything, st.integers(0, N - 1))
@example(True, 1)
@example(1.0, 1)
@example("1", 1)
def test_anything_is_scored_by_equality_alone(predicted: Any, gold: int) -> None:
    exact = (type(predicted) is int and predicted == gold) or (
        isinstance(predicted, str) and predicted.strip(" \t\r\n") == str(gold)
    )
    assert score_prediction(predicted, None, run(gold)).step == float(exact)


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "no_step"), ("", "no_step"), ("1 2 3", "not_an_integer"), (True, "not_an_integer"),
        ("Step 3", "not_an_integer"), ("٣", "not_an_integer"), (3.0, "not_an_integer"),
        ([3], "not_an_integer"), (N, "out_of_range"), ("-1", "not_an_integer"),
        (-1, "out_of_range"), ("99", "out_of_range"),
    ],
)  # fmt: skip
def test_failures_have_a_kind(value: object, kind: str) -> None:
    assert exact_step(value, N) == (None, kind)
    assert dict(score_prediction(value, None, run(3)).unparsed) == {kind: 1}


def test_within_k() -> None:
    assert score_prediction(5, None, run(3)).within == (0, 0, 1, 1, 1, 1)
    assert score_prediction(None, None, run(0)).within == (0,) * 6
    spread = Guess((0.5, 0.0, 0.25, 0.25) + (0.0,) * 8, {"A": 0.25, "B": 0.75})
    assert score_guess(spread, run(2)).within == (0.25, 0.5, 1, 1, 1, 1)
    assert score_guess(spread, run(2)).agent == 0.25


@pytest.mark.parametrize(
    ("named", "gold", "hit"),
    [
        ("Orchestrator", "Orchestrator (thought)", 1.0),
        ("Orchestrator (-> X)", "Orchestrator", 1.0),
        ("Orch", "Orchestrator", 0.0),
        ("A, Orchestrator", "Orchestrator", 0.0),
        (None, "Orchestrator", 0.0),
        ("A", None, None),
    ],
)
def test_agents(named: str | None, gold: str | None, hit: float | None) -> None:
    assert score_prediction(1, named, run(1, gold)).agent == hit


def test_unparsed_is_wrong_and_failed_is_missing() -> None:
    right = score_opinion(Opinion(step=1, agent="A"), run(1))
    unparsed = score_opinion(Opinion(status="unparsed"), run(1))
    failed = score_opinion(Opinion(status="failed", error="timeout: x"), run(1))
    m = summarise([right, unparsed, failed])
    assert (m.step.value, m.step.n, m.cases, m.failed) == (0.5, 2, 3, 1)
    nothing = summarise([failed])
    assert nothing.step.value is None and nothing.curve[0].lo is None
    unlabelled = score_prediction(1, "A", Episode("e", run(1).steps, "x"))
    assert summarise([unlabelled]).step.n == 0


def test_a_paired_difference() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = [1.0, 1, 1, 0, None], [0.0, 1, 0, 0, 1]
    c = compare(ours, theirs, rng)
    assert (c.value, c.n) == (0.5, 4)
    assert c.lo is not None and c.hi is not None and c.lo <= 0.5 <= c.hi
    # P(a resample shows no advantage) = P(4 draws miss both wins) = 1/16; but two wins of two
    # have signs as extreme by chance in 1/4.
    assert c.p == pytest.approx(1 / 4)
    c = compare([1.0] * 8 + [0.0] * 8, [0.0] * 8 + [0.0] * 7 + [1.0], rng)
    assert 0.5**9 < c.p < 0.02
    same = compare(ours, ours, rng)
    assert (same.value, same.p) == (0.0, 1.0)
    assert compare([1.0], [0.0], rng).value is None


@pytest.mark.parametrize("n", [2, 5, 40])
def test_differences_that_are_all_alike_are_not_certain(n: int) -> None:
    rng = np.random.default_rng(0)
    for ours, theirs in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        c = compare([ours] * n, [theirs] * n, rng)
        assert c.lo is not None and c.hi is not None and c.p is not None
        assert -1 <= c.lo <= ours - theirs <= c.hi <= 1 and c.hi - c.lo > 1 / n
        assert c.p >= 0.5**n


@pytest.mark.slow
def test_the_paired_interval_covers() -> None:
    """Nominal 95 %; the percentile bootstrap of 60 pairs is known to be slightly narrow."""
    rng = np.random.default_rng(1)
    hits, runs, n = 0, 400, 60
    truth = 0.45 - 0.30
    for _ in range(runs):
        shared = rng.random(n)  # correlated: both find the easy runs
        ours = (0.5 * shared + 0.5 * rng.random(n) < _level(0.45)).astype(float)
        theirs = (0.5 * shared + 0.5 * rng.random(n) < _level(0.30)).astype(float)
        c = compare(list(ours), list(theirs), rng, resamples=1000)
        assert c.lo is not None and c.hi is not None
        hits += c.lo <= truth <= c.hi
    assert 0.915 <= hits / runs <= 0.98  # 400 runs: ± 2.2 % at two standard errors


def _level(p: float) -> float:
    """Where the mean of two uniforms lies below with probability p < 1/2."""
    return (p / 2) ** 0.5


def test_best_floor() -> None:
    one = [score_prediction(1, "A", run(1))]
    none = [score_prediction(2, "A", run(1))]
    assert best_floor({"a": none, "b": one}) == "b"
