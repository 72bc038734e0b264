"""Designs: their shapes, their coins, and what each promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.stats import masks as m

SIZES = {"n": st.integers(1, 40), "count": st.integers(1, 40), "seed": st.integers(0, 2**32 - 1)}


@given(**SIZES)
def test_designs_have_their_shape_and_depend_on_the_rng_only(n: int, count: int, seed: int) -> None:
    makers = [
        lambda rng: m.bernoulli(n, count, rng),
        lambda rng: m.blocked(np.arange(n) // 3, count, rng),
        lambda rng: m.held_out(n, count, rng, m.bernoulli(n, 4, rng)),
    ]
    for make in makers:
        a, b = (make(np.random.default_rng(seed)) for _ in range(2))
        assert np.array_equal(a.masks, b.masks)
        assert a.masks.dtype == np.bool_ and a.masks.shape[1] == n and len(a) <= count
        assert len(a) == len(a.purposes) == len(a.blocks) == len(a.clusters)
        if n > 16:
            assert len(a) == count


@given(**SIZES)
def test_blocks_tell_the_truth(n: int, count: int, seed: int) -> None:
    d = m.blocked(np.arange(n) // 3, count, np.random.default_rng(seed))
    for row, blocks in zip(d.masks, d.blocks, strict=True):
        assert all(len(set(row[blocks == b])) == 1 for b in set(blocks))
    assert np.array_equal(d.alone()[0], np.bincount(np.arange(n) // 3)[np.arange(n) // 3] == 1)


def test_coins_are_fair_and_independent() -> None:
    x = m.bernoulli(30, 20_000, np.random.default_rng(0)).masks.astype(float)
    assert np.abs(x.mean(axis=0) - 0.5).max() < 4 * 0.5 / np.sqrt(20_000)
    off = np.corrcoef(x.T) - np.eye(30)
    assert np.abs(off).max() < 5 / np.sqrt(20_000)


def test_few_sources_are_enumerated() -> None:
    d = m.bernoulli(4, 64, np.random.default_rng(0))
    assert len(d) == len({r.tobytes() for r in d.masks}) == 16
    seen = m.bernoulli(4, 10, np.random.default_rng(1))
    fresh = m.held_out(4, 16, np.random.default_rng(2), seen)
    assert len(fresh) == 6
    assert not {r.tobytes() for r in fresh.masks} & {r.tobytes() for r in seen.masks}


def test_leave_one_out_and_its_anchors() -> None:
    d = m.leave_one_out(3)
    assert d.masks.astype(int).tolist() == [
        [1, 1, 1], [0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]
    ]  # fmt: skip
    assert d.purposes == ("full", "empty", *(["leave_one_out"] * 3))
    assert len(d.of("full", "empty")) == 2


def test_pairs() -> None:
    d = m.pairs(5, [1, 3, 4])
    assert [tuple(np.flatnonzero(~r)) for r in d.masks] == [
        (), (1,), (3,), (4,), (1, 3), (1, 4), (3, 4)
    ]  # fmt: skip


def test_designs_join_without_mixing_clusters() -> None:
    rng = np.random.default_rng(0)
    a = m.design("twos", rng.random((4, 20)) < 0.5, clusters=np.arange(4) // 2)
    b = m.bernoulli(20, 3, rng)
    both = m.concatenate([a, b])
    assert both.clusters.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert both.name == "twos+bernoulli" and len(both) == 7
    with pytest.raises(ValueError, match="one context"):
        m.concatenate([a, m.bernoulli(21, 3, np.random.default_rng(0))])


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="2-dimensional|dimensional"):
        m.design("x", np.ones(3))
    with pytest.raises(ValueError, match="as many"):
        m.design("x", np.ones((2, 3)), clusters=np.arange(3))
