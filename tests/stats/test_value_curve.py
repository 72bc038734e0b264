"""The pooled value curve: exact limits, calibration, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, norm

from tests.stats.curves import as_data
from tests.studies.anchors.anchors import case
from tracelab.engines.scripted import Script
from tracelab.stats.value_curve import JUMPS, SCALES, Posterior, Prior, fit, keep_nodes, posterior
from tracelab.stats.value_grid import GRID
from tracelab.studies.anchors import pooled, resample
from tracelab.studies.anchors.tally import tally


def simulated(rng: np.random.Generator, size: int, n: int, jumps: int, keep: float):
    """A curve that moves in a few jumps, and rollouts that left it in each unit."""
    end = float(rng.integers(0, 2))
    p = np.where(rng.random(size) < 0.5, keep, 0.1 * rng.random(size))
    other, value = np.empty(size), np.empty(size + 1)
    value[size] = end
    at = set(rng.choice(size, jumps, replace=False).tolist())
    for i in range(size - 1, -1, -1):
        other[i] = rng.random() if i in at else value[i + 1]
        value[i] = p[i] * value[i + 1] + (1 - p[i]) * other[i]
    left = rng.binomial(n, 1 - p)
    total = rng.binomial(left, other)
    return as_data([*total, end * n], [*left, n], p), value


def test_with_much_data_it_is_the_mean() -> None:
    rng = np.random.default_rng(0)
    data, value = simulated(rng, 12, 20_000, 3, 0.6)
    mean, lo, hi = posterior(data, fit([data])).values(0.95)
    assert mean == pytest.approx(value, abs=0.02)
    assert (hi - lo < 0.05).all()


def test_without_data_it_says_so() -> None:
    data = as_data(np.zeros(6), np.zeros(6))
    post = posterior(data, Prior())
    _, lo, hi = post.values(0.95)
    assert (hi - lo > 0.8).all()
    assert (post.exceeds(0.1) > 0.05).all()


def test_a_sentence_that_is_always_written_has_no_effect() -> None:
    data = as_data([0, 3, 5, 9], [0, 9, 9, 9], [1.0, 0.3, 0.5])
    mean, lo, hi = posterior(data, Prior()).importances(0.95)
    assert mean[0] == lo[0] == hi[0] == 0


def test_the_importances_are_the_differences_of_the_values() -> None:
    rng = np.random.default_rng(4)
    data, _ = simulated(rng, 20, 8, 3, 0.7)
    post = posterior(data, fit([data]))
    value, _, _ = post.values(0.95)
    change, _, _ = post.importances(0.95)
    assert change == pytest.approx(np.diff(value), abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("n", [4, 16])
def test_calibrated_when_the_world_is_as_assumed(n: int) -> None:
    rng = np.random.default_rng(n)
    drawn = [simulated(rng, 20, n, 3, 0.6) for _ in range(25)]
    prior = fit([d for d, _ in drawn])
    value, delta, matters, truth = [], [], [], []
    for data, v in drawn:
        post = posterior(data, prior)
        _, lo, hi = post.values(0.95)
        value.append((lo <= v) & (v <= hi))
        _, lo, hi = post.importances(0.95)
        d = np.diff(v)
        delta.append((lo - 1e-9 <= d) & (d <= hi + 1e-9))
        matters.append(post.exceeds(0.1))
        truth.append(np.abs(d) > 0.1)
    assert 0.92 <= np.mean(value) <= 0.99
    # Most sentences do nothing, which the prior knows, and an interval may not rest on.
    assert np.mean(delta) >= 0.93
    # P(|ΔV| > .1) is a probability: what it says adds up to what is there.
    assert np.sum(matters) == pytest.approx(np.sum(truth), rel=0.35)


@pytest.mark.slow
def test_pooling_needs_fewer_rollouts_for_the_same_error() -> None:
    """Against independent binomials a boundary, on curves with jumps: at least 3x (DESIGN 4.3)."""
    rng = np.random.default_rng(1)
    drawn = [simulated(rng, 30, 8, 3, 0.0) for _ in range(30)]
    prior = fit([d for d, _ in drawn])
    ours = [posterior(d, prior).importances(0.95)[0] - np.diff(v) for d, v in drawn]
    theirs = []
    for _, v in drawn:
        seen = rng.binomial(24, v) / 24
        theirs.append(np.diff(seen) - np.diff(v))
    assert np.mean(np.square(ours)) < np.mean(np.square(theirs))


@pytest.mark.slow
def test_the_decisive_sentence_is_found_and_probabilities_are_not_boastful() -> None:
    rng = np.random.default_rng(5)
    hits, said = [], []
    for _ in range(60):
        size, at = 12, int(rng.integers(1, 11))
        value = np.where(np.arange(size + 1) > at, 0.05, 0.6)
        total = rng.binomial(8, value)
        data = as_data([*total[:-1], 0], [8] * size + [8])
        where = posterior(data, Prior()).decisive(0.1)
        assert where.sum() <= 1 + 1e-9
        hits.append(int(where.argmax()) == at)
        said.append(where.max())
    assert np.mean(hits) > 0.8
    assert np.mean(said) < np.mean(hits) + 0.12


@pytest.mark.slow
@pytest.mark.parametrize("n", [3, 8])
def test_pooled_intervals_cover_the_closed_form_of_another_process(n: int) -> None:
    cases = [
        case(Script.random(np.random.default_rng(s), slots=7), s, n=n, good="1") for s in range(40)
    ]
    counts = [tally(c.units, c.rollouts, c.keep) for c in cases]
    prior = fit([k.curve() for k in counts])
    hits, widths = [], []
    for c, k in zip(cases, counts, strict=True):
        alone = {
            s.unit_index: s.hi - s.lo
            for s in resample.estimate("t", c.units, k, min_rollouts=1)
            if s.metric == "delta_value" and s.status == "ok"
        }
        for s in pooled.estimate("t", c.units, k, prior, delta=0.1):
            if s.metric == "delta_value" and s.status == "ok":
                true = c.truth[s.unit_index + 1] - c.truth[s.unit_index]
                hits.append(s.lo - 1e-9 <= true <= s.hi + 1e-9)
                if s.unit_index in alone:
                    widths.append((s.hi - s.lo, alone[s.unit_index]))
    assert len(hits) > 150 and len(widths) > 150
    assert np.mean(hits) >= 0.92
    together, apart = np.mean(widths, axis=0)
    assert together < 0.95 * apart, "what pooling is for"


@pytest.mark.slow
def test_intervals_carry_the_uncertainty_of_an_estimated_keep() -> None:
    """One sentence decides all, and how often it is written is only estimated: p decides V."""
    rng = np.random.default_rng(1)
    draws, n = [], 30
    for _ in range(120):
        p, end = rng.uniform(0.3, 0.7, 3), float(rng.integers(0, 2))
        other = np.array([p[1] * end + (1 - p[1]) * (1 - end), 1 - end, end])
        kept = np.array([rng.binomial(n, q) for q in p])
        left = n - kept
        data = as_data(
            [*rng.binomial(left, other), end * n], [*left, n],
            keep_nodes(kept, np.full(3, n)),
        )  # fmt: skip
        draws.append((data, (1 - p[1]) * (end - other[1])))
    prior = fit([d for d, _ in draws])
    inside = []
    for data, true in draws:
        _, lo, hi = posterior(data, prior).importances(0.95)
        inside.append(lo[1] - 1e-9 <= true <= hi[1] + 1e-9)
    assert 0.91 <= np.mean(inside) <= 0.99


def test_it_refuses_data_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="one entry a boundary"):
        as_data([1, 2], [3, 4], [0.1, 0.2])


def component(k: int) -> np.ndarray:
    """P(U | V) of one component of the prior, by its description; [V, U] on the grid."""
    grid = np.linspace(0, 1, GRID)
    if k >= len(SCALES):
        inside = np.clip(grid, 0.25 / GRID, 1 - 0.25 / GRID)
        row = beta.pdf(inside, *JUMPS[k - len(SCALES)])
        return np.tile(row / row.sum(), (GRID, 1))
    if SCALES[k] == 0:
        return np.eye(GRID)
    found = norm.pdf(grid, grid[:, None], SCALES[k])
    found[np.eye(GRID, dtype=bool)] = 0  # a change, so never by nothing
    return found / found.sum(axis=1, keepdims=True)


def test_a_change_is_no_change_in_one_component_only() -> None:
    """What a prior of one component says without data. A jump that stays where it is would take
    from the share of sentences that do nothing, which the first component estimates: the curve is
    not the same in law, though at a spacing of .01 few intervals move."""
    data = as_data(np.zeros(3), np.zeros(3))
    still = []
    for k in range(len(SCALES) + len(JUMPS)):
        one = tuple(float(j == k) for j in range(len(SCALES) + len(JUMPS)))
        post = posterior(data, Prior(one))
        still.append(post.delta[1, GRID - 1])
    assert still[0] == pytest.approx(1)
    assert still[1 : len(SCALES)] == pytest.approx([0] * (len(SCALES) - 1), abs=1e-12)
    assert all(0 < p < 0.5 for p in still[len(SCALES) :])


def test_two_units_are_enumerated() -> None:
    """All 101^3 values of (U_0, U_1, V_2), where no unit is ever kept: V_0 = U_0, V_1 = U_1."""
    total, n = np.array([1.0, 4.0, 2.0]), np.array([3.0, 5.0, 2.0])
    weights = np.array([0.4, 0.1, 0.15, 0.1, 0.1, 0.05, 0.1])
    kernel = np.tensordot(weights, [component(k) for k in range(len(weights))], axes=1)
    grid = np.linspace(0, 1, GRID)
    v = np.clip(grid, 0.25 / GRID, 1 - 0.25 / GRID)
    like = v ** total[:, None] * (1 - v) ** (n - total)[:, None]
    ends = (grid + 0.005) ** -0.5 * (1.005 - grid) ** -0.5
    # Axes V_2, V_1, V_0: the chain runs from the end.
    joint = (ends * like[2])[:, None, None] * (kernel * like[1])[:, :, None]
    joint = joint * (kernel * like[0])[None]
    joint /= joint.sum()
    post = posterior(as_data(total, n), Prior(tuple(weights)))
    for b, axes in enumerate([(0, 1), (0, 2), (1, 2)]):
        assert post.value[b] == pytest.approx(joint.sum(axis=axes), abs=1e-9)
    pair = joint.sum(axis=0)  # [V_1, V_0]
    for j in (-30, -1, 0, 1, 45):
        exact = np.trace(pair, offset=-j)
        assert post.delta[0, GRID - 1 + j] == pytest.approx(exact, abs=1e-9)


def test_the_largest_change_is_by_size() -> None:
    """Unit 0 rises by .8, units 1 and 2 fall by .5 and .3: whose is the largest?"""
    delta = np.zeros((3, 201))
    for row, change in zip(delta, (80, -50, -30), strict=True):
        row[100 + change] = 1
    post = Posterior(
        np.linspace(0, 1, GRID), np.full((4, GRID), 1 / GRID), np.arange(-100, 101) / 100, delta,
        np.ones(3), np.zeros(3), np.zeros(3), np.full((4, GRID), 1 / GRID), delta,
    )  # fmt: skip
    assert post.decisive(0.1) == pytest.approx([1, 0, 0], abs=1e-6)
    assert post.decisive(0.9) == pytest.approx([0, 0, 0], abs=1e-6)
