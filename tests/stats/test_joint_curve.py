"""Curves drawn together, and two falls held against each other, by sums over all there is."""

from __future__ import annotations

import numpy as np
import pytest

from tracelab.stats.joint_curve import KINDS, JointCurve, learn
from tracelab.stats.rivals import outdoes
from tracelab.stats.value_curve import CurveData, Prior, posterior


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.85])
def test_curves_have_the_marginals_of_the_chain(keep: float) -> None:
    """Under one kind they are draws from the posterior that forward-backward sums."""
    total, n = np.array([6.0, 2.0, 3.0, 0.0]), np.array([8.0, 8.0, 4.0, 6.0])
    curve = CurveData(total, n, np.full((3, 1), keep))
    shares = np.zeros(len(KINDS))
    shares[7] = 1.0
    drawn = JointCurve(curve).draw(shares, 4000)
    wanted = posterior(curve, Prior(tuple(KINDS[7].tolist())))
    mean = wanted.value @ wanted.grid
    sd = np.sqrt(wanted.value @ wanted.grid**2 - mean**2)
    assert drawn.mean(axis=0) == pytest.approx(mean, abs=0.02)
    assert drawn.std(axis=0) == pytest.approx(sd, abs=0.02)
    falls = drawn[:, :-1] - drawn[:, 1:]
    assert falls.mean(axis=0) == pytest.approx(-wanted.importances(0.95)[0], abs=0.02)
    assert falls.std(axis=0) == pytest.approx(wanted.sd(), abs=0.03)


def test_the_same_data_give_the_same_curves_and_what_is_not_known_of_p_widens_them() -> None:
    n = np.full(4, 8.0)
    known = CurveData(n * [0.8, 0.7, 0.1, 0.0], n, np.full((3, 21), 0.5))
    vague = CurveData(n * [0.8, 0.7, 0.1, 0.0], n, np.tile(np.linspace(0.05, 0.95, 21), (3, 1)))
    shares = learn([])
    assert (JointCurve(known).draw(shares) == JointCurve(known).draw(shares)).all()
    spread = [JointCurve(c).draw(shares)[:, 0].std() for c in (known, vague)]
    assert spread[1] > spread[0]


def test_traces_of_one_kind_leave_half_to_the_others() -> None:
    n = np.full(9, 12.0)
    one_fall = CurveData(n * np.repeat([0.9, 0.0], [5, 4]), n, np.zeros((8, 1)))
    shares = learn([JointCurve(one_fall)] * 40)
    assert shares.sum() == pytest.approx(1)
    assert shares.min() >= 0.5 / len(KINDS) and shares.max() > 2 / len(KINDS)


def test_of_two_falls_the_larger_is_as_sure_as_what_lies_between() -> None:
    """V is .8 before both, .5 or .7 between, 0 after: at .4 between they would be alike."""

    def chance(between: float, n: float, unit: int) -> float:
        many = np.array([60.0, n, 60.0, 60.0])
        won = many * [0.8, between, 0.0, 0.0]
        return float(outdoes(CurveData(won, many, np.zeros((3, 1))), unit)[1 - unit])

    assert chance(0.7, 20, 1) > 0.99 and chance(0.7, 20, 0) < 0.01
    assert 0.7 < chance(0.5, 10, 1) < 0.95 < chance(0.5, 100, 1)
    assert chance(0.5, 10, 0) == pytest.approx(1 - chance(0.5, 10, 1), abs=1e-6)
    assert chance(0.4, 40, 1) == pytest.approx(0.5, abs=0.1)


def test_a_step_that_is_always_taken_again_is_no_rival() -> None:
    n = np.array([20.0, 20.0, 0.0, 40.0])
    curve = CurveData(np.array([16.0, 15.0, 0.0, 0.0]), n, np.array([[0.1], [0.1], [1.0]]))
    assert outdoes(curve, 1)[2] > 0.99 and outdoes(curve, 1)[1] == 1
