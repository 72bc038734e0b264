"""The sparse model: pairs that a sum of single effects blurs, rows a chain may not see, priors."""

from __future__ import annotations

import numpy as np
import pytest

from tracelab.stats.masks import bernoulli, blocked
from tracelab.stats.sparse import act

GROUP = np.repeat(np.arange(6), 10)


@pytest.mark.parametrize("joint", [True, False])
def test_both_of_a_pair_are_found_with_the_effect_each_has_on_average(joint: bool) -> None:
    x = bernoulli(60, 40, np.random.default_rng(1)).masks
    pair = x[:, [3, 7]].all(axis=1) if joint else x[:, [3, 7]].any(axis=1)
    y = -2 + 4.0 * pair + 0.05 * np.random.default_rng(2).normal(size=40)
    count, effect = act(x, np.repeat(y[None], 24, 0), GROUP, np.random.default_rng(3), sweeps=40)
    assert set(np.argsort(-effect.mean(axis=0))[:2]) == {3, 7}
    assert effect.mean(axis=0)[[3, 7]] == pytest.approx([2, 2], abs=0.4)
    assert count.mean(axis=0)[[3, 7]].min() > 0.8


def test_a_chain_uses_only_its_rows() -> None:
    x = bernoulli(60, 32, np.random.default_rng(1)).masks
    y, seen = np.repeat((3.0 * x[:, 5])[None], 8, 0), np.ones((8, 32), dtype=np.bool_)
    seen[:, :8] = False
    spoiled = np.where(seen, y, 1e6)
    a, b = (act(x, v, GROUP, np.random.default_rng(3), seen=seen)[1] for v in (y, spoiled))
    assert np.array_equal(a, b) and a.mean(axis=0).argmax() == 5


def test_sources_of_a_closed_block_share_as_the_prior_says() -> None:
    x = blocked(GROUP, 16, np.random.default_rng(1)).masks
    y = np.repeat((2.0 * x[:, 20])[None], 12, 0)
    prior = np.zeros(60)
    prior[25] = 5
    plain = act(x, y, GROUP, np.random.default_rng(3))[1].mean(axis=0)
    told = act(x, y, GROUP, np.random.default_rng(3), prior=prior)[1].mean(axis=0)
    assert plain[20:30] == pytest.approx(np.full(10, plain[20])) and plain[20] > 0.1
    assert told.argmax() == 25 and told.sum() == pytest.approx(2, abs=0.4)


def test_a_constant_outcome_has_no_effect() -> None:
    x = bernoulli(60, 16, np.random.default_rng(1)).masks
    assert np.abs(act(x, np.full((4, 16), -3.0), GROUP, np.random.default_rng(3))[1]).max() < 1e-9
