"""Distances, divergences and entropies against closed forms and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy as scipy_entropy

from tracelab.stats.divergence import (
    entropy,
    fdr_adjust,
    js,
    kl,
    log_odds_difference,
    smoothed,
    tv,
)

counts = st.lists(st.integers(0, 30), min_size=2, max_size=6).filter(any)
pairs = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        *[st.lists(st.integers(0, 30), min_size=k, max_size=k).filter(any) for _ in range(2)]
    )
)


@given(pairs)
def test_distances_are_metrics_within_their_bounds(pair: tuple[list[int], list[int]]) -> None:
    p, q = (np.array(c) / sum(c) for c in pair)
    assert 0 <= tv(p, q) <= 1 + 1e-12
    assert 0 <= js(p, q) <= np.log(2) + 1e-12
    assert js(p, q) == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-9)
    assert tv(p, q) == pytest.approx(float(tv(q, p)))
    assert tv(p, p) == js(p, p) == 0
    # Lin's bound, and Pinsker's for the mixture: each limits the other.
    assert js(p, q) <= np.log(2) * tv(p, q) + 1e-12
    assert js(p, q) >= tv(p, q) ** 2 / 2 - 1e-12


def test_disjoint_distributions_are_at_the_far_end() -> None:
    assert tv([1, 0], [0, 1]) == 1
    assert js([0.5, 0.5, 0], [0, 0, 1]) == pytest.approx(np.log(2))


def test_kl_is_the_papers_and_shows_its_noise() -> None:
    """Two samples of (.7, 30 x .01), n = 100: 2.34 nats at the paper's alpha, .11 at alpha 1."""
    rng = np.random.default_rng(0)
    truth = np.array([0.7, *[0.01] * 30])
    a, b = rng.multinomial(100, truth, (2, 400))
    assert np.mean([kl(x, y, 1e-9) for x, y in zip(a, b, strict=True)]) == pytest.approx(
        2.34, abs=0.15
    )
    assert np.mean([kl(x, y, 1.0) for x, y in zip(a, b, strict=True)]) == pytest.approx(
        0.11, abs=0.02
    )


def test_kl_by_hand() -> None:
    p, q = np.array([4.5, 2.5]) / 7, np.array([1.5, 5.5]) / 7
    assert kl([4, 2], [1, 5], 0.5) == pytest.approx(scipy_entropy(p, q))
    assert kl([4, 2, 0], [1, 5, 0], 0.5) == kl([4, 2], [1, 5], 0.5)
    assert np.isnan(kl([0, 0], [1, 2]))


@given(counts, st.floats(0.01, 3))
def test_smoothing_is_a_posterior_mean(c: list[int], prior: float) -> None:
    p = smoothed(c, prior)
    assert p.sum() == pytest.approx(1)
    assert (p > 0).all()
    assert p[0] == pytest.approx((c[0] + prior) / (sum(c) + prior * len(c)))


def test_miller_madow_removes_most_of_the_bias() -> None:
    rng = np.random.default_rng(0)
    truth = np.array([0.4, 0.3, 0.2, 0.1])
    exact = scipy_entropy(truth)
    for n in (10, 30, 100):
        draws = rng.multinomial(n, truth, 4000)
        plain = np.mean([entropy(c, miller_madow=False) for c in draws]) - exact
        better = np.mean([entropy(c) for c in draws]) - exact
        assert plain < -0.01
        assert abs(better) < 0.3 * abs(plain) + 0.002
    assert np.isnan(entropy([0, 0]))
    assert entropy([7]) == 0


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 30, 100])
def test_log_odds_difference_covers(n: int) -> None:
    """Nominal 95 %: at least 0.93 at every truth (0.95-0.99), conservative at the edges."""
    rng = np.random.default_rng(n)
    for p, q in rng.uniform(0.05, 0.95, (60, 2)):
        a, b = rng.binomial(n, p, 3000), rng.binomial(n, q, 3000)
        value, lo, hi = log_odds_difference(a, n, b, n)
        exact = np.log(q / (1 - q)) - np.log(p / (1 - p))
        assert np.mean((lo <= exact) & (exact <= hi)) > 0.93
        assert np.isfinite(value).all()


def test_log_odds_sign_and_nothing_observed() -> None:
    value, lo, hi = log_odds_difference([2, 8, 0], [10, 10, 0], [8, 2, 3], [10, 10, 5])
    assert value[0] == pytest.approx(-value[1])
    assert value[0] > 0
    assert lo[0] < value[0] < hi[0]
    assert np.isnan([value[2], lo[2], hi[2]]).all()


def test_fdr_ignores_missing_and_holds() -> None:
    p = np.array([[0.001, np.nan], [0.02, 0.8]])
    adjusted = fdr_adjust(p)
    assert np.isnan(adjusted[0, 1])
    assert adjusted[0, 0] == pytest.approx(0.003)
    assert adjusted[1, 0] == pytest.approx(0.03)
    assert np.isnan(fdr_adjust([np.nan, np.nan])).all()
    assert fdr_adjust([]).size == 0
    rng = np.random.default_rng(0)
    false = []
    for _ in range(400):
        null, real = rng.random(40), rng.beta(0.05, 5, 10)
        found = fdr_adjust(np.concatenate([null, real])) <= 0.1
        false.append(found[:40].sum() / max(found.sum(), 1))
    assert np.mean(false) <= 0.1
