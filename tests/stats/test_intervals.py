"""Intervals: equal to the libraries', and they cover what they say."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.stats import binom, fisher_exact
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from benchmarks.testbed import truth
from tracelab.stats.intervals import difference, fisher, jeffreys, two_sample_p, wilson

TRUTH = truth.OUT / "boundaries.parquet"


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_statsmodels(pair: tuple[int, int]) -> None:
    count, n = pair
    lo, hi = wilson(count, n)
    expected = proportion_confint(count, n, method="wilson")
    assert (float(lo), float(hi)) == pytest.approx(expected, abs=1e-9)


@given(st.integers(2, 200).flatmap(lambda n: st.tuples(st.integers(1, n - 1), st.just(n))))
def test_jeffreys_is_statsmodels_inside(pair: tuple[int, int]) -> None:
    count, n = pair
    lo, hi = jeffreys(count, n)
    expected = proportion_confint(count, n, method="jeffreys")
    assert (float(lo), float(hi)) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("interval", [wilson, jeffreys])
@pytest.mark.parametrize("n", [1, 3, 10, 77])
def test_a_truth_of_0_or_1_is_inside(interval: Any, n: int) -> None:
    lo, hi = interval([0, n], n)
    assert lo[0] == 0 and hi[1] == 1
    d_lo, d_hi = difference([0, n], n, [n, 0], n)
    assert d_hi[0] == 1 and d_lo[1] == -1


@given(st.integers(20, 60), st.integers(20, 60), st.data())
def test_the_difference_is_near_newcombes(n_a: int, n_b: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    lo, hi = difference(a, n_a, b, n_b)
    expected = confint_proportions_2indep(b, n_b, a, n_a, method="newcomb", compare="diff")
    assert (float(lo), float(hi)) == pytest.approx(expected, abs=0.1)
    assert hi - lo < 1.06 * (expected[1] - expected[0])


@given(st.integers(1, 60), st.integers(1, 60), st.data())
def test_swapping_the_arms_flips_the_sign(n_a: int, n_b: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n_a)), data.draw(st.integers(0, n_b))
    lo, hi = difference(a, n_a, b, n_b)
    back_lo, back_hi = difference(b, n_b, a, n_a)
    assert (lo, hi) == pytest.approx((-back_hi, -back_lo))


def test_nothing_observed_is_nan_not_zero() -> None:
    assert np.isnan(wilson([0], [0])).all()
    assert np.isnan(difference([0], [0], [3], [5])).all()


def coverage(n: int, truths: np.ndarray) -> np.ndarray:
    """How often the interval of the difference of two arms of n holds it: exact, by enumeration.

    Args:
        truths: P(reward) of arm a and of arm b, [truths, 2].
    """
    k = np.arange(n + 1)
    lo, hi = difference(k[:, None], n, k, n)
    a, b = (binom.pmf(k, n, p[:, None]) for p in truths.T)
    gap = truths[:, 1] - truths[:, 0]
    # An end that is the truth itself holds it, however it was rounded.
    return np.array([
        x @ ((lo <= d + 1e-12) & (d - 1e-12 <= hi)) @ y for x, y, d in zip(a, b, gap, strict=True)
    ])  # fmt: skip


@pytest.mark.parametrize("n", [8, 20, 40, 100])
def test_the_difference_covers(n: int) -> None:
    """Nominal 95 %: on average over truths in [0.94, 0.97], at the worst truth above 0.90,
    and above 0.86 at n = 8.

    A binomial has few values at small n, so exact coverage oscillates with the truth; 0.924 at
    n = 8, p = q = 0.5 is the method, not noise.
    """
    truths = np.random.default_rng(n).uniform(0.02, 0.98, (400, 2))
    covered = coverage(n, truths)
    assert 0.94 < np.mean(covered) < 0.97
    assert np.min(covered) > (0.86 if n == 8 else 0.90)


@pytest.mark.parametrize("n", [5, 10, 20, 50, 100])
def test_the_difference_covers_on_the_values_of_real_sentences(n: int) -> None:
    """Neighbouring reference values of the testbed; a third of the pairs touch 0 or 1."""
    table = parquet.read_table(TRUTH, columns=["trace_id", "boundary", "value"]).to_pylist()
    table.sort(key=lambda r: (r["trace_id"], r["boundary"]))
    pairs = [
        (x["value"], y["value"])
        for x, y in itertools.pairwise(table)
        if x["trace_id"] == y["trace_id"]
    ]
    assert len(pairs) > 600
    inside = coverage(n, np.array(pairs))
    assert 0.945 < inside.mean() < 0.97
    inner = np.abs(np.array(pairs) - 0.5).max(1) < 0.45
    assert 0.94 < inside[inner].mean() < 0.96


def test_wilson_is_conservative_for_partial_rewards() -> None:
    rng = np.random.default_rng(0)
    totals = rng.beta(2, 3, (20_000, 12)).sum(1)
    lo, hi = wilson(totals, 12)
    assert np.mean((lo <= 0.4) & (0.4 <= hi)) > 0.95


@pytest.mark.parametrize("mean", [0.5, 0.95])
def test_p_of_partial_rewards_is_valid_where_one_group_is_tiny(mean: float) -> None:
    """Two equal groups, of 1 to 3 and of 40, rewards 0 and 1 but for 5 % that are a half."""
    rng = np.random.default_rng(5)
    n = rng.integers(1, 4, 3_000)
    half_a, half_b = rng.binomial(n, 0.05), rng.binomial(40, 0.05, 3_000)
    a = rng.binomial(n - half_a, mean) + 0.5 * half_a
    b = rng.binomial(40 - half_b, mean) + 0.5 * half_b
    p = two_sample_p(a, n, b, np.full(3_000, 40), whole=False)
    for rate in (0.01, 0.05, 0.2):
        assert np.mean(p <= rate) <= rate + 3 * np.sqrt(rate / 3_000)
    far = two_sample_p([0.5], [20], [19.5], [20], whole=False)
    assert far[0] < 1e-6


@given(st.integers(1, 30), st.integers(1, 30), st.data())
def test_p_of_whole_rewards_needs_no_rounding(n: int, m: int, data: st.DataObject) -> None:
    a, b = data.draw(st.integers(0, n)), data.draw(st.integers(0, m))
    exact, rounded = (two_sample_p([a], [n], [b], [m], whole=w)[0] for w in (True, False))
    assert rounded == pytest.approx(exact)


TABLES = st.tuples(st.integers(1, 80), st.integers(1, 80)).flatmap(
    lambda nm: st.tuples(
        st.integers(0, nm[0]), st.just(nm[0]), st.integers(0, nm[1]), st.just(nm[1])
    )
)


@settings(max_examples=40)
@given(st.lists(TABLES, min_size=1, max_size=8))
def test_fisher_is_scipys(tables: list[tuple[int, int, int, int]]) -> None:
    exact = [fisher_exact([[x, n - x], [y, m - y]]).pvalue for x, n, y, m in tables]
    assert fisher(*np.array(tables).T) == pytest.approx(exact, rel=1e-8)


@pytest.mark.parametrize(("n", "m"), [(2_000, 2_000), (700, 5_000)])
def test_fisher_is_scipys_for_large_groups_and_for_ties(n: int, m: int) -> None:
    """Groups of one size: the table and its mirror image are equally likely, and both count."""
    rng = np.random.default_rng(n)
    x, y = rng.binomial(n, rng.random(40)), rng.binomial(m, rng.random(40))
    y[:20] = np.rint(x[:20] / n * m + rng.integers(-40, 41, 20)).clip(0, m)
    exact = [fisher_exact([[a, n - a], [b, m - b]]).pvalue for a, b in zip(x, y, strict=True)]
    assert fisher(x, n, y, m) == pytest.approx(exact, rel=1e-7, abs=1e-300)
    assert fisher([], [], [], []).shape == (0,)
