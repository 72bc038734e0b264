"""Effects of sampled outcomes: coverage in contexts whose effects are known, and limits."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from tracelab.stats.effects import Effects, SampledOutcomes, average_effects
from tracelab.stats.masks import bernoulli
from tracelab.stats.surrogate import fit

World = Callable[[np.ndarray], np.ndarray]


def logistic(z: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-z)))


WORLDS: dict[str, World] = {
    "additive": lambda m: logistic(4 * m[:, 0] + 2 * m[:, 1] - 3),
    "one": lambda m: np.where(m[:, 0], 0.9, 0.1),
    "certain": lambda m: m[:, 0].astype(float),
    "either": lambda m: 0.95 * (m[:, 0] | m[:, 1]),
    "any of four": lambda m: m[:, :4].any(1).astype(float),
    "all of three": lambda m: 0.9 * m[:, :3].all(1) + 0.02,
    "none, even": lambda m: np.full(len(m), 0.5),
    "none, rare": lambda m: np.full(len(m), 0.98),
    "none, always": lambda m: np.full(len(m), 1.0),
    "dense": lambda m: logistic(m @ np.linspace(-1, 1, m.shape[1])),
}


def exact(world: World, n: int) -> np.ndarray:
    masks = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
    y = world(masks)
    return np.array([y[kept].mean() - y[~kept].mean() for kept in masks.T])


def estimated(world: World, n: int, masks: int, samples: int, seed: int) -> Effects:
    rng = np.random.default_rng([n, masks, samples, seed])
    kept = bernoulli(n, masks, rng).masks
    answers = rng.random((len(kept), samples)) < world(kept)[:, None]
    y = answers.mean(axis=1)
    many = samples > 1
    noise = answers.var(axis=1, ddof=1) / samples if many else np.full(len(kept), np.inf)
    sampled = SampledOutcomes(noise, np.full(len(kept), samples))
    return average_effects(kept, y, fit(kept, y, rng=rng), sampled=sampled)


@pytest.mark.slow
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_intervals_hold_what_they_should(world: World) -> None:
    """n = 4: every mask is seen, so all noise is that of the samples; n = 5, 8: part of them."""
    for n, masks in ((4, 16), (5, 24), (8, 32)):
        beta = exact(world, n)
        for samples in (1, 4):
            found = [estimated(world, n, masks, samples, seed) for seed in range(60)]
            held = np.mean([(e.lo - 1e-9 <= beta) & (beta <= e.hi + 1e-9) for e in found])
            # Of 240 and more intervals of 95 %, correlated within a set of masks.
            assert held >= 0.91, (n, samples, held)


def test_all_masks_are_not_exact_where_answers_are_sampled() -> None:
    e = estimated(WORLDS["one"], 4, 16, 4, 0)
    assert (e.hi - e.lo > 0.05).all()
    kept = bernoulli(4, 16, np.random.default_rng(0)).masks
    y = WORLDS["one"](kept)
    plain = average_effects(kept, y, fit(kept, y, rng=np.random.default_rng(0)))
    assert plain.lo == pytest.approx(plain.hi)


def test_answers_that_never_change_leave_room_for_others() -> None:
    wide = [estimated(WORLDS["none, always"], 8, m, 4, 0) for m in (16, 64)]
    for e in wide:
        assert e.value == pytest.approx(0) and (e.lo < -0.02).all() and (e.hi > 0.02).all()
    assert (wide[1].hi < wide[0].hi).all()


def test_effects_stay_within_what_is_possible() -> None:
    e = estimated(WORLDS["certain"], 8, 16, 1, 1)
    assert e.lo.min() >= -1 and e.hi.max() <= 1
