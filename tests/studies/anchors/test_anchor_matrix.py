from __future__ import annotations

import numpy as np
import pytest

from tests.golden.published_summary import converged_from, figure_means, summarize
from tests.studies.anchors.test_anchor_scores import rollout, units
from tracelab.studies.anchors.published.matrix import importance_matrix, rollout_matches


def test_the_matrix_is_the_difference_of_rates_above_the_diagonal() -> None:
    rng = np.random.default_rng(1)
    matches = [rng.random((size, 4)) < 0.5 for size in (5, 8, 3, 6)]
    got = importance_matrix(matches)
    for i in range(4):
        for j in range(4):
            want = matches[i + 1][:, j].mean() - matches[i][:, j].mean() if j > i else 0.0
            assert got[i, j] == pytest.approx(want)


def test_no_rollouts_are_a_zero_row_as_published() -> None:
    some = np.ones((2, 3), dtype=bool)
    got = importance_matrix([some, np.zeros((0, 3), dtype=bool), some])
    assert not got.any()
    assert importance_matrix([]).shape == (0, 0)


def test_summary_by_hand() -> None:
    matrix = [[0, 0.5, 0.1], [0, 0, -0.4], [0, 0, 0]]
    got = summarize(matrix)
    assert got.avg_importance == pytest.approx(0.2 / 9)
    assert (got.max_importance, got.min_importance) == (0.5, -0.4)
    assert got.outgoing == pytest.approx([0.3, -0.4, 0])
    assert got.incoming == pytest.approx([0, 0.5, -0.15])
    assert (got.top_influential, got.top_dependent) == ((0,), (1,))


def test_rollouts_as_matches() -> None:
    """Unit 0 makes unit 2 certain: from boundary 1 all say it, from boundary 0 half do."""
    rollouts = [
        rollout(start=0, diverge=0, similarity=0.1, echoes=0b100),
        rollout(start=0, diverge=1, similarity=0.1, echoes=0),
        rollout(start=2, diverge=2, similarity=0.85, echoes=0b100),
        rollout(start=2, diverge=5, similarity=0.9, echoes=0),
        rollout(start=4, diverge=6, similarity=None, echoes=None),  # never leaves: says it all
        rollout(start=4, diverge=4, similarity=None, echoes=None),  # not computed: left out
    ]
    got = importance_matrix(rollout_matches(units(), rollouts))
    # Boundary 0: 1 in neither (the replacing sentence is not compared with it), 2 in half.
    # Boundary 1: 1 in both (similar; verbatim), 2 in both (echo; similar). Boundary 2: 2 in all.
    assert got == pytest.approx(np.array([[0, 1, 0.5], [0, 0, 0], [0, 0, 0]]))


@pytest.mark.parametrize(
    ("accuracies", "at"),
    [
        ([0.5, *[1.0] * 8], 1),
        ([0.5, 0.0, 0.0, 0.0, 0.0, 1, 1, 1, 1], 1),
        ([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.5, 0.5], None),
        ([0.5] * 5 + [1.0] * 4, None),  # too close to the end to be looked at
        ([], None),
    ],
)
def test_convergence(accuracies: list[float], at: int | None) -> None:
    assert converged_from(accuracies) == at


def test_figure_means_are_means_of_traces_with_negatives_at_zero() -> None:
    def trace(*values: float) -> list[dict[str, object]]:
        return [{"accuracy": 0.5, "m": v, "c": "a" if v < 0.5 else "b"} for v in values]

    traces = [trace(-1.0, 0.2), trace(0.4), trace(0.1, 0.9), trace(0.3, 0.9)]
    got = figure_means(traces, "m", category=lambda c: str(c["c"]))
    means = [0.1, 0.4, 0.1, 0.3]
    assert set(got) == {"a"}  # b is in two traces only
    assert got["a"].mean == pytest.approx(np.mean(means))
    assert got["a"].se == pytest.approx(np.std(means, ddof=1) / 2)
    assert got["a"].traces == 4
    with pytest.raises(ValueError, match="`m` of a chunk is NoneType"):
        figure_means([[{"accuracy": 0.5, "m": None, "c": "a"}]], "m", category=lambda c: "a")
