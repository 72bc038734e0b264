"""Where V falls most, on posteriors written by hand: the answer is arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from tracelab.stats.joint_curve import learn
from tracelab.stats.value_curve import Prior, posterior
from tracelab.studies.audit.rerun import Rerun
from tracelab.studies.audit.step import falls, largest_falls, tally


def draws(*curves: tuple[float, list[float]]) -> np.ndarray:
    """Curves V_0 ... V_N, each in so many of a hundred draws."""
    return np.array([v for share, v in curves for _ in range(round(100 * share))])


def test_a_sure_fall_is_decisive_only_where_no_larger_one_is() -> None:
    """Step 1 surely falls by .2; step 0, with probability .9, by .8: then it is not step 1."""
    prob, none, each, dominant = largest_falls(
        draws((0.9, [1.0, 0.2, 0.0]), (0.1, [0.2, 0.2, 0.0])), 0.15
    )
    assert prob == pytest.approx([0.9, 0.1])
    assert none == 0 and each == pytest.approx([0.9, 1.0]) and dominant == pytest.approx(0.9)


def test_a_rise_is_nobodys_fault() -> None:
    prob, none, _, _ = largest_falls(
        draws((0.5, [0.1, 0.9, 0.6, 0.5]), (0.5, [0.1, 0.9, 0.9, 0.8])), 0.15
    )
    assert prob == pytest.approx([0, 0.5, 0])
    assert none == pytest.approx(0.5)


def test_falls_go_together_or_do_not() -> None:
    """Each step falls in half of the curves; whether ever both do is what its own share hides."""
    never = largest_falls(draws((0.5, [0.6, 0.0, 0.0]), (0.5, [0.6, 0.6, 0.0])), 0.15)
    both = largest_falls(draws((0.5, [0.9, 0.4, 0.0]), (0.5, [0.0, 0.0, 0.0])), 0.15)
    assert never[2] == pytest.approx([0.5, 0.5]) and both[2] == pytest.approx([0.5, 0.5])
    assert never[0] == pytest.approx([0.5, 0.5]) and never[1] == 0
    assert both[0] == pytest.approx([0.5, 0.0]) and both[1] == 0.5


def test_a_fall_that_is_hardly_the_largest_does_not_dominate() -> None:
    assert largest_falls(draws((1.0, [0.9, 0.42, 0.0])), 0.15)[3] == 0
    assert largest_falls(draws((1.0, [0.9, 0.3, 0.0])), 0.15)[3] == 1


@pytest.mark.parametrize("end", [0.5, 1.0])
def test_the_recorded_end_is_known(end: float) -> None:
    """Nothing was re-executed to the end, and it is certain all the same: the record says it."""
    reruns = [Rerun(0, 0, 0.0) for _ in range(6)]
    fitted = posterior(tally(2, reruns, end=end).curve(), Prior())
    value, lo, hi = fitted.values(0.95)
    assert value[-1] == pytest.approx(end, abs=0.05)
    assert lo[-1] <= end <= hi[-1] and hi[-1] - lo[-1] < 0.35
    # Re-executions that reached the end with that score add nothing new to it.
    again = posterior(tally(2, [*reruns, Rerun(1, 2, end)], end=end).curve(), Prior())
    assert again.values(0.95)[0][-1] == pytest.approx(value[-1], abs=0.02)


def test_a_partial_score_at_the_end_is_where_falls_are_counted_from() -> None:
    """V is 1 until the last action and ends at .5: the last action lost a half, not everything."""
    reruns = [Rerun(t, t, 1.0) for t in range(3) for _ in range(12)]
    curve = tally(3, reruns, end=0.5).curve()
    found = falls(curve, posterior(curve, Prior()), learn([]), 0.15, 0.95)
    assert found.order[0] == 2 and found.prob[2] > 0.9
    assert found.mean[2] == pytest.approx(0.5, abs=0.1)
