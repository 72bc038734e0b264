"""Shapley values and sets of sources: axioms, closed forms, coverage."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations as orders
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.core.flow import Flow, drive
from tracelab.studies.cite.methods.kinds import Values
from tracelab.studies.cite.methods.pairs import pair_interactions
from tracelab.studies.cite.methods.shapley import kernel, permutations
from tracelab.studies.cite.methods.sufficient import minimal_sufficient, set_score


def ask(question: Callable[[Values], Flow[Any]], score: Callable[[np.ndarray], np.ndarray]) -> Any:
    """Drive a question with a function from masks [rows, n] to values [rows]."""

    def values(masks: np.ndarray) -> Flow[np.ndarray]:
        return np.asarray(score(masks), dtype=np.float64)
        yield

    return drive(question(values), lambda items: ())


def game(masks: np.ndarray) -> np.ndarray:
    """An OR pair (0, 1), an AND pair (2, 3), and a source that lowers it (4); 5 does nothing."""
    m = np.asarray(masks, dtype=bool)
    return np.asarray(
        4.0 * (m[:, 0] | m[:, 1]) + 3.0 * (m[:, 2] & m[:, 3]) - m[:, 4] - 5.0, dtype=float
    )


def exact(v: object, n: int) -> np.ndarray:
    """By definition: the mean gain over all orders."""
    total = np.zeros(n)
    for order in orders(range(n)):
        m = np.zeros((1, n), dtype=bool)
        for j in order:
            before = v(m)[0]  # type: ignore[operator]
            m[0, j] = True
            total[j] += v(m)[0] - before  # type: ignore[operator]
    return total / len(list(orders(range(n))))


@pytest.mark.parametrize("method", [permutations, kernel])
@given(n=st.integers(1, 7), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_efficiency_and_additive_games(method: object, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    w = rng.normal(size=n)
    out = ask(partial(method, n, 6, rng), lambda m: m @ w + 2.0)  # type: ignore[operator]
    assert out.value.sum() == pytest.approx(w.sum())
    if method is permutations:
        assert out.value == pytest.approx(w) and out.stderr == pytest.approx(0, abs=1e-9)
    assert out.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(("method", "draws"), [(permutations, 8), (kernel, 40)])
def test_shapley_intervals_cover(method: object, draws: int) -> None:
    def v(m: np.ndarray) -> np.ndarray:
        g = game(m)
        return np.asarray(5 * np.tanh(g / 5) + m @ np.array([0.1, 0, 0.2, 0, 0, -0.3]))

    truth = exact(v, 6)
    hits, values = [], []
    for seed in range(200):
        out = ask(partial(method, 6, draws, np.random.default_rng(seed)), v)  # type: ignore[operator]
        lo, hi = out.interval(0.9)
        hits.append((lo - 1e-9 <= truth) & (truth <= hi + 1e-9))
        values.append(out.value)
        assert out.value.sum() == pytest.approx(v(np.ones((1, 6)))[0] - v(np.zeros((1, 6)))[0])
    assert np.mean(values, axis=0) == pytest.approx(truth, abs=0.06)
    assert 0.85 < np.mean(hits) < 0.96


def test_players_that_are_alike_get_alike() -> None:
    out = ask(partial(permutations, 6, 400, np.random.default_rng(0)), game)
    assert out.value[0] == pytest.approx(out.value[1], abs=4 * out.stderr[0] + 1e-9)
    assert out.value == pytest.approx([2, 2, 1.5, 1.5, -1, 0], abs=0.15)
    assert out.value[5] == 0


def test_failed_masks_are_not_zero() -> None:
    def v(m: np.ndarray) -> np.ndarray:
        y = game(m)
        y[(m.sum(axis=1) == 3) & m[:, 0]] = np.nan
        return y

    out = ask(partial(permutations, 6, 60, np.random.default_rng(0)), v)
    assert out.failed > 0 and (out.draws < 60).all()
    dead = ask(
        partial(permutations, 6, 5, np.random.default_rng(0)), lambda m: np.full(len(m), np.nan)
    )
    assert np.isnan(dead.value).all() and np.isnan(dead.interval()[0]).all()


def test_the_smallest_set_that_suffices() -> None:
    out = ask(partial(minimal_sufficient, 6, [0, 1, 2, 3, 4, 5], tolerance=0.5), game)
    # One of the two that say the same, and both of the two that need each other.
    assert out.reached and len(out.members) == 3
    assert {2, 3} < set(out.members) and {0, 1} & set(out.members)
    assert out.value >= out.full - 0.5 and out.masks <= 60


def test_what_a_budget_does_not_reach_is_said() -> None:
    out = ask(partial(minimal_sufficient, 6, range(6), tolerance=0.5, budget=4), game)
    assert not out.reached and out.masks <= 4
    dead = ask(partial(minimal_sufficient, 6, range(6)), lambda m: np.full(len(m), np.nan))
    assert not dead.reached and dead.failed == 2 and dead.masks == 2


def test_a_context_that_does_not_matter_needs_nothing() -> None:
    out = ask(partial(minimal_sufficient, 3, range(3)), lambda m: np.full(len(m), -1.0))
    assert out.reached and out.members == () and out.masks == 2


def test_necessity_and_sufficiency() -> None:
    either = ask(partial(set_score, 6, [0]), game)
    assert (either.necessity, either.sufficiency) == (0, 4)
    both = ask(partial(set_score, 6, [0, 1]), game)
    assert (both.necessity, both.sufficiency, both.hold, both.context) == (4, 4, 2, 6)
    assert ask(partial(set_score, 2, [0]), lambda m: np.full(4, np.nan)).necessity is None


def test_pairs_that_act_together() -> None:
    found = {(p.i, p.j): p for p in ask(partial(pair_interactions, 6, [3, 2, 0, 1, 4]), game)}
    assert found[0, 1].kind == "redundant" and found[0, 1].interaction == -4
    assert found[2, 3].kind == "joint" and found[2, 3].interaction == 3
    others = [p for k, p in found.items() if k not in ((0, 1), (2, 3))]
    assert len(others) == 8 and all(p.kind == "separate" for p in others)
    assert found[0, 1].drop == 4
