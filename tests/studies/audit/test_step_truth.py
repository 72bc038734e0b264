"""Where V falls most, on posteriors written by hand: the answer is arithmetic."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tracelab.stats.value_curve import Posterior, Prior, posterior
from tracelab.studies.audit.step import Rerun, falls, tally

STEPS = np.arange(-100, 101) / 100


def changes(*units: Mapping[float, float]) -> Posterior:
    """A posterior in which unit i changes V by each key with the probability behind it."""
    delta = np.zeros((len(units), len(STEPS)))
    for row, unit in zip(delta, units, strict=True):
        for change, p in unit.items():
            row[round(100 * change) + 100] = p
    n = len(units)
    value = np.full((n + 1, 101), 1 / 101)
    return Posterior(np.linspace(0, 1, 101), value, STEPS, delta, np.ones(n), np.zeros(n),
                     np.zeros(n), value, delta)  # fmt: skip


def test_a_sure_fall_is_decisive_only_where_no_larger_one_is() -> None:
    """Step 1 surely falls by .4; step 0, with probability .9, by .8: then it is not step 1."""
    found = falls(changes({-0.8: 0.9, 0.0: 0.1}, {-0.4: 1.0}), 0.15, 0.95)
    assert found.prob == pytest.approx([0.9, 0.1], abs=1e-6)
    assert found.none == pytest.approx(0, abs=1e-6)
    assert found.each == pytest.approx([0.9, 1.0])


def test_a_rise_is_nobodys_fault() -> None:
    found = falls(changes({0.8: 1.0}, {-0.3: 0.5, 0.0: 0.5}, {-0.1: 1.0}), 0.15, 0.95)
    assert found.prob == pytest.approx([0, 0.5, 0], abs=1e-6)
    assert found.none == pytest.approx(0.5)


def test_of_three_that_may_fall_alike_each_is_as_likely() -> None:
    """Sizes differ, so the largest is the first that fell: p, then (1 - p) p, then the rest."""
    p = 0.6
    found = falls(
        changes({-0.9: p, 0.0: 0.4}, {-0.6: p, 0.0: 0.4}, {-0.3: p, 0.0: 0.4}), 0.15, 0.95
    )
    assert found.prob == pytest.approx([p, (1 - p) * p, (1 - p) ** 2 * p], abs=1e-6)
    assert found.none == pytest.approx((1 - p) ** 3)


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
    found = falls(posterior(tally(3, reruns, end=0.5).curve(), Prior()), 0.15, 0.95)
    assert found.order[0] == 2 and found.prob[2] > 0.9
    assert found.mean[2] == pytest.approx(0.5, abs=0.1)
