"""What the anchors benchmark computes from rollouts, on values known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.anchors import published, replay
from benchmarks.anchors.reference import Reference, match
from benchmarks.anchors.replay import Curve, Judged, Point
from benchmarks.separation import auc
from tracelab.core.errors import TracelabError
from tracelab.core.finding import Score
from tracelab.core.unit import Unit


def reference(delta: list[float], se: float = 0.0) -> Reference:
    value = np.concatenate([[0.5], 0.5 + np.cumsum(delta)])
    n = len(delta)
    return Reference(
        "t", value, np.full(n + 1, se), np.array(delta), np.full(n, se), ("filler",) * n, 2000
    )


def score(i: int, value: float | None, half: float = 0.1, status: str = "ok") -> Score:
    lo, hi = (None, None) if value is None else (value - half, value + half)
    return Score("t", "sentence", i, "resample", "delta_value", value, lo, hi, 0.95, 9, status)  # type: ignore[arg-type]


def test_errors_coverage_and_what_was_missed() -> None:
    judged = Judged()
    judged.add([score(0, 0.3), score(1, 0.0), score(2, None, status="insufficient")],
               reference([0.5, 0.05, -0.4]))  # fmt: skip
    point = judged.point(10.0)
    assert point.rmse == pytest.approx(np.sqrt((0.2**2 + 0.05**2 + 0.4**2) / 3))
    assert point.coverage == 0.5
    assert point.insufficient == pytest.approx(1 / 3)
    assert point.f1 == pytest.approx(2 * 1 / (1 + 2))


def test_the_references_own_noise_is_taken_out() -> None:
    judged = Judged()
    judged.add([score(0, 0.3)], reference([0.4], se=0.06))
    assert judged.point(1.0).rmse == pytest.approx(np.sqrt(0.1**2 - 0.06**2))


def test_an_interval_covers_within_both_widths() -> None:
    assert replay.covers(score(0, 0.0, 0.1), 0.1, 0.0)
    assert not replay.covers(score(0, 0.0, 0.1), 0.12, 0.0)
    assert replay.covers(score(0, 0.0, 0.1), 0.12, 0.05)


def test_tokens_at_an_error_are_interpolated_on_log_scales() -> None:
    def point(tokens: float, rmse: float) -> Point:
        return Point(tokens, rmse, 0.95, 0.95, 1, 1, 0)

    curve = Curve("x", [point(100, 0.2), point(400, 0.1), point(1600, 0.05)])
    assert replay.tokens_at(curve, 0.1) == pytest.approx(400)
    assert replay.tokens_at(curve, 0.1 * 2**0.5) == pytest.approx(200)
    assert replay.tokens_at(curve, 0.01) is None


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == 0.875


def test_references_that_were_cut_elsewhere_are_refused() -> None:
    units = [Unit("sentence", 0, 0, 3, 0, 1, "One")]
    row = {"value": 0.5, "value_se": 0.01, "role": "filler", "n": 2000}
    with pytest.raises(TracelabError, match="not those of the reference"):
        match("t", units, [{**row, "text": "Two"}, {**row, "text": ""}])
    found = match("t", units, [{**row, "text": " One"}, {**row, "text": "rest"}])
    assert found.delta.tolist() == [0.0]


def test_pooling_pays_on_curves_that_move_in_jumps() -> None:
    rng = np.random.default_rng(3)
    value = np.where(np.arange(60) < 25, 0.3, np.where(np.arange(60) < 40, 0.8, 1.0))
    known = published.Known(value, np.linspace(600, 10, 60))
    found = published.replay([known, known], rng, share=0.1)
    assert found["cost_ratio_at_equal_rmse"] > 10
