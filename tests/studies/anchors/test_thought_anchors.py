from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.golden.published_summary import implied_rollouts
from tracelab.studies.anchors.published.figures import (
    FORCED_METRICS,
    METRICS,
    GradedRollout,
    chunk_figures,
    counterfactual_importance_accuracy,
    counterfactual_importance_kl,
    kl,
    overdeterminedness,
    resampling_importance_accuracy,
)


def r(
    answer: str, correct: bool | None, resampled: str = "s", sim: float | None = 0.0
) -> GradedRollout:
    return GradedRollout(answer, correct, resampled, sim)


# Two of four answers right where chunk 0 is resampled; three of four where it is kept.
HERE = [
    r("7", True, "a", 0.9),
    r("7", True, "b", 0.8),
    r("8", False, "c", 0.79),
    r("9", False, "c"),
]
AFTER = [r("7", True), r("7", True), r("7", True), r("8", False)]


def test_a_chunk_by_hand() -> None:
    row, last = chunk_figures([HERE, AFTER], forced=[AFTER, HERE])
    assert set(row) == {*METRICS, *FORCED_METRICS}
    assert row["accuracy"] == 0.5
    assert row["resampling_importance_accuracy"] == 0.25  # kept 3/4 - resampled 2/4
    assert row["counterfactual_importance_accuracy"] == -0.75  # different 0/2 - kept 3/4
    assert row["different_trajectories_fraction"] == 0.5  # .79 and 0 are below .8, .8 is not
    assert row["overdeterminedness"] == 0.25  # a, b, c, c
    assert row["forced_importance_accuracy"] == -0.25
    # KL of (2, 1, 1) from (3, 1, 0) of four: 9 is unseen on the other side.
    unseen = 0.25 * math.log(0.25 / (1e-9 / 4))
    assert row["resampling_importance_kl"] == pytest.approx(
        0.5 * math.log(0.5 / 0.75) + unseen, abs=1e-6
    )
    # KL of {8, 9} from kept and similar together: 5 sevens and an 8.
    assert row["counterfactual_importance_kl"] == pytest.approx(
        0.5 * math.log(0.5 / (1 / 6)) + 0.5 * math.log(0.5 / (1e-9 / 6)), abs=1e-6
    )
    assert last["accuracy"] == 0.75
    assert {v for k, v in last.items() if k != "accuracy"} == {0.0}


def test_resampling_and_counterfactual_have_opposite_signs() -> None:
    """A chunk that is always different when resampled: one is minus the other."""
    here = [r("7", k < 3) for k in range(10)]
    after = [r("7", k < 8) for k in range(10)]
    assert resampling_importance_accuracy(here, after) == pytest.approx(0.5)
    assert counterfactual_importance_accuracy(here, after) == pytest.approx(-0.5)


def test_missing_things_are_zero_as_published() -> None:
    similar = [r("7", True, "a", 1.0)]
    assert counterfactual_importance_accuracy(similar, AFTER) == 0.0
    assert counterfactual_importance_kl(similar, AFTER) == 0.0
    assert counterfactual_importance_accuracy(HERE, []) == 0.0
    row = chunk_figures([HERE, [], AFTER])[0]
    assert row["resampling_importance_accuracy"] == -0.5  # the faked accuracy 0.0 of chunk 1
    assert row["counterfactual_importance_accuracy"] == -0.75  # compared with chunk 2
    assert set(chunk_figures([[]])[0].values()) == {0.0}
    assert chunk_figures([]) == []


def test_answerless_rollouts_leave_every_denominator() -> None:
    more = [*HERE, r("", False, "z", 0.0), r("", None, "y", 0.0)]
    assert chunk_figures([more, AFTER]) == chunk_figures([HERE, AFTER])
    ungraded = chunk_figures([[*HERE, r("7", None, "d", 0.0)], AFTER])[0]
    assert ungraded["accuracy"] == 0.5  # left out here,
    assert ungraded["different_trajectories_fraction"] == 0.6  # and counted there


def test_nested_braces_merge_in_the_counterfactual_only() -> None:
    a, b = r"\frac{\sqrt{3}}{2}", r"\frac{\sqrt3}{2}"
    here, after = [r(a, True)], [r(b, True)]
    assert chunk_figures([here, after])[0]["counterfactual_importance_kl"] == 0.0
    assert kl([r"{{7}}"], [r"{7}"]) > 10  # one pass keeps them apart


ANSWERS = st.lists(st.sampled_from(["1", "2", "3", "1.0", ""]), max_size=12)


@given(ANSWERS, ANSWERS)
def test_kl_is_the_plain_definition(p: list[str], q: list[str]) -> None:
    p_seen, q_seen = [a for a in p if a], [a for a in q if a]
    union = {*p_seen, *q_seen}
    expected = 0.0
    if p_seen and q_seen:
        for v in union:
            a = (p_seen.count(v) + 1e-9) / (len(p_seen) + 1e-9 * len(union))
            b = (q_seen.count(v) + 1e-9) / (len(q_seen) + 1e-9 * len(union))
            expected += a * math.log(a / b)
    assert kl(p, q) == pytest.approx(max(0.0, expected), abs=1e-9)
    assert kl(p, p) == 0.0


def test_kl_of_one_distribution_is_far_from_zero() -> None:
    """The audit's figure: E[KL] of two samples of .7 + 30 x .01 is 2.34 nats (alpha 1: 0.11)."""
    import numpy as np

    rng = np.random.default_rng(0)
    p = [0.7, *[0.01] * 30]

    def mean(alpha: float) -> float:
        draws = rng.multinomial(100, p, size=(300, 2))
        names = np.array([str(i) for i in range(31)])
        pairs = [[np.repeat(names, counts).tolist() for counts in pair] for pair in draws]
        return float(np.mean([kl(a, b, alpha) for a, b in pairs]))

    assert mean(1e-9) == pytest.approx(2.34, abs=0.15)
    assert mean(1.0) == pytest.approx(0.11, abs=0.02)


@given(st.integers(1, 60), st.data())
def test_the_count_is_recovered_or_a_multiple_of_it_is(n: int, data: st.DataObject) -> None:
    k, d, u = (data.draw(st.integers(0, n)) for _ in range(3))
    listed = data.draw(st.integers(n, 2 * n - 1))
    found = implied_rollouts(k / n, d / n, 1 - u / n, listed)
    assert found is not None and n <= found <= listed
    for x in (k / n, d / n, u / n):
        assert x * found == pytest.approx(round(x * found), abs=1e-5)


def test_overdeterminedness_ignores_order_and_counts_strings() -> None:
    assert overdeterminedness(["a", "b", "a", "A"]) == 0.25
    assert overdeterminedness([]) == 0.0
