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
        lambda rng: m.paired(n, count, rng),
        lambda rng: m.prefix_product(n, count, rng),
        lambda rng: m.blocked(np.arange(n) // 3, count, rng),
        lambda rng: m.held_out(n, count, rng, m.published(n, 4)),
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


@given(**SIZES)
def test_duplicates_go_and_come_back(n: int, count: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((count, n)) < 0.5
    unique, inverse = m.deduplicate(masks)
    assert np.array_equal(unique[inverse], masks)
    assert len({u.tobytes() for u in unique}) == len(unique)
    assert np.array_equal(unique[0], masks[0])


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


def test_paired_rows_are_complements_in_one_cluster() -> None:
    d = m.paired(30, 9, np.random.default_rng(0))
    assert np.array_equal(d.masks[0], ~d.masks[1])
    assert d.clusters.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4]


def test_prefix_product_shares_prefixes() -> None:
    d = m.prefix_product(40, 12, np.random.default_rng(0), k=3)
    for c in range(4):
        rows = d.masks[d.clusters == c]
        assert len(rows) == 3 and len({r[:20].tobytes() for r in rows}) == 1
        assert len({r[20:].tobytes() for r in rows}) == 3


def shared(masks: np.ndarray, order: np.ndarray) -> int:
    total = 0
    for a, b in zip(masks[order], masks[order][1:], strict=False):
        differ = np.flatnonzero(a != b)
        total += len(a) if not len(differ) else int(differ[0])
    return total


@given(**SIZES)
def test_prefix_order_shares_most(n: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks = rng.random((count, n)) < 0.5
    order = m.prefix_order(masks)
    assert sorted(order) == list(range(count))
    best = shared(masks, order)
    assert all(best >= shared(masks, rng.permutation(count)) for _ in range(5))


def test_prefix_order_starts_with_the_whole_context() -> None:
    d = m.leave_one_out(6)
    assert m.prefix_order(d.masks)[0] == 0
    assert m.prefix_order(d.masks)[-1] == 1


def test_designs_join_without_mixing_clusters() -> None:
    a, b = m.paired(20, 4, np.random.default_rng(0)), m.bernoulli(20, 3, np.random.default_rng(0))
    both = m.concatenate([a, b])
    assert both.clusters.tolist() == [0, 0, 1, 1, 2, 3, 4]
    assert both.name == "paired+bernoulli" and len(both) == 7
    with pytest.raises(ValueError, match="one context"):
        m.concatenate([a, m.bernoulli(21, 3, np.random.default_rng(0))])


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="2-dimensional|dimensional"):
        m.design("x", np.ones(3))
    with pytest.raises(ValueError, match="as many"):
        m.design("x", np.ones((2, 3)), clusters=np.arange(3))
