"""Tests of scores: closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from tracelab.stats import held_out as f

WEIGHTS = st.lists(st.integers(-3, 3), min_size=2, max_size=20).map(lambda w: np.array(w, float))


@given(WEIGHTS, st.integers(0, 2**32 - 1))
def test_lds_is_spearman(weights: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    masks, y = rng.random((12, len(weights))) < 0.5, rng.normal(size=12)
    ours = f.lds(weights, masks, y)
    if np.ptp(masks @ weights) == 0:
        assert ours is None
    else:
        assert ours == pytest.approx(spearmanr(masks @ weights, y).statistic)


def test_lds_leaves_failed_masks_out() -> None:
    w, masks = np.array([2.0, 1, -1]), np.random.default_rng(0).random((9, 3)) < 0.5
    y = masks @ w
    y[4] = np.nan
    assert f.lds(w, masks, y) == pytest.approx(1)
    assert f.lds(w, masks, np.full(9, np.nan)) is None


def test_top_k() -> None:
    w = np.array([0.0, 3.0, np.nan, 1.0])
    assert f.ranking(w).tolist() == [1, 3, 0, 2]
    assert f.top_k_masks(w, [0, 1, 2, 9]).astype(int).tolist() == [
        [1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]
    ]  # fmt: skip


@given(WEIGHTS, st.integers(1, 30))
def test_curves_go_from_end_to_end(weights: np.ndarray, points: int) -> None:
    deletion, insertion = f.curve_masks(weights, points)
    assert deletion[0].all() and not deletion[-1].any()
    assert np.array_equal(insertion, ~deletion)
    assert (np.diff(deletion.sum(axis=1)) < 0).all()


def test_areas() -> None:
    w = np.array([4.0, 2, 1, 0])
    deletion, insertion = f.curve_masks(w)
    good, bad = f.curve_area(insertion @ w), f.curve_area(deletion @ w)
    assert good == pytest.approx((0 / 2 + 4 + 6 + 7 + 7 / 2) / 4 / 7)
    assert bad == pytest.approx(1 - good)
    assert f.curve_area(np.array([1.0, np.nan, 2])) is None
    assert f.curve_area(np.array([1.0, 1.0])) is None


def test_precision() -> None:
    assert f.precision_at_k(np.array([3.0, 1, 2, 0]), [0, 1]) == 0.5
    assert f.precision_at_k(np.ones(3), []) is None
