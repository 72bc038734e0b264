"""Adaptive allocation: where it spends, and that its numbers stay honest."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import scripted_trace, sentences
from tests.stats.curves import as_data
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.stats.value_curve import Prior, posterior
from tracelab.studies.anchors import allocate
from tracelab.studies.anchors.tally import Tally, tally


def units_of(script: Script, seed: int = 0):
    return sentences(ScriptTokenizer(script), scripted_trace(script, seed))[1]


def progress(keep, n, total=None, *, cost=None, wanted=None) -> allocate.Progress:
    """A trace as the allocator sees it, from counts by unit left."""
    n = np.asarray(n, dtype=np.int64)
    total = n / 2 if total is None else np.asarray(total, dtype=float)
    size = len(keep)
    counts = Tally(
        total=np.zeros(size + 1), n=n, unanswered=n * 0, ungraded=n * 0, left_total=total,
        left_n=n, keep=np.asarray(keep, dtype=float), exact=np.ones(size, dtype=bool),
    )  # fmt: skip
    return allocate.Progress(
        counts=counts,
        fitted=posterior(as_data(total, n, keep), Prior()),
        planned=n.copy(),
        cost=np.ones(size + 1) if cost is None else np.asarray(cost, dtype=float),
        open=np.ones(size, dtype=bool) if wanted is None else np.asarray(wanted),
    )


def spend(p: allocate.Progress, tokens: float = 40.0, cap: int = 1000) -> np.ndarray:
    return allocate.next_round([p], tokens=tokens, batch=4, cap=cap)[0]


def test_it_looks_where_least_is_known() -> None:
    more = spend(progress([0, 0, 0], [40, 2, 40, 40]))
    assert more[1] == more.max()
    assert more[1] > 3 * more[0] and more[1] > 3 * more[3]


def test_a_certain_sentence_gets_nothing_of_its_own() -> None:
    more = spend(progress([0.3, 1.0, 0.3], [4, 0, 4, 4], cost=[4, 3, 2, 1]))
    assert more[1] == 0


def test_it_prefers_what_is_cheap_when_it_teaches_as_much() -> None:
    more = spend(progress([0, 0], [4, 4, 4], cost=[50.0, 1.0, 1.0]), tokens=60)
    assert more[1] > more[0]


def test_decided_units_are_left_alone() -> None:
    wanted = [False, False, False, True]
    more = spend(progress([0, 0, 0, 0], [4, 4, 4, 4, 4], wanted=wanted))
    assert more[:3].sum() == 0 and more[3:].sum() > 0
    assert spend(progress([0, 0], [4, 4, 4], wanted=[False, False])).sum() == 0


def test_limits_are_kept() -> None:
    more = spend(progress([0, 0], [4, 4, 4]), tokens=10_000, cap=9)
    assert (more <= 5).all()
    more = spend(progress([0, 0], [4, 4, 4]), tokens=20)
    assert 20 <= more.sum() < 24  # the last batch may overrun
    assert spend(progress([0, 0], [4, 4, 4]), tokens=0).sum() == 0


def test_the_same_observations_give_the_same_plan() -> None:
    a = spend(progress([0.2, 0.6, 0.1], [4, 4, 4, 4], [1, 3, 2, 4]))
    b = spend(progress([0.2, 0.6, 0.1], [4, 4, 4, 4], [1, 3, 2, 4]))
    assert a.tolist() == b.tolist()


@pytest.mark.parametrize("keep", [[0.3, 0.8, 0.5], [0.0, 0.0, 0.0], [1.0, 0.4, 0.9]])
def test_sensitivities_are_derivatives(keep: list[float]) -> None:
    """Against finite differences of V_i = p_i V_{i+1} + (1 - p_i) U_i."""
    p = np.asarray(keep)
    wanted = np.array([True, False, True])

    def changes(x: np.ndarray) -> np.ndarray:
        v = np.empty(4)
        v[3] = x[3]
        for i in (2, 1, 0):
            v[i] = p[i] * v[i + 1] + (1 - p[i]) * x[i]
        return np.diff(v)

    x = np.array([0.2, 0.7, 0.4, 0.9])
    by_hand = []
    for j in range(4):
        up = x.copy()
        up[j] += 1e-6
        by_hand.append((((changes(up) - changes(x)) / 1e-6)[wanted] ** 2).sum())
    assert allocate._sensitivity(p, wanted) == pytest.approx(by_hand, abs=1e-6)


def test_the_first_round_skips_what_is_certified() -> None:
    units = units_of(Script.planted())
    keep = np.linspace(0.5, 1.0, len(units))
    plan = allocate.first_round(tally(units, [], keep), initial=4, certify_below=0.1)
    assert plan[:-1].tolist() == [0 if k > 0.9 else 4 for k in keep]
    assert plan[-1] == 4
