"""Goldens G2 - G4: published importances, fractions and overdeterminedness, recomputed."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest

from tests.golden.anchors_data import HALF, published
from tests.golden.published_grades import first_boxed, is_correct
from tests.golden.published_summary import implied_rollouts
from tests.shared import needs_shared
from tracelab.studies.anchors.published.figures import (
    GradedRollout,
    chunk_figures,
    counterfactual_importance_accuracy,
    overdeterminedness,
    resampling_importances,
)

pytestmark = needs_shared


def implied(chunk: dict[str, float], listed: int) -> int | None:
    return implied_rollouts(
        chunk["accuracy"],
        chunk["different_trajectories_fraction"],
        chunk["overdeterminedness"],
        listed,
    )


def group(correct: int, total: int, **more: object) -> list[GradedRollout]:
    return [GradedRollout("7", k < correct, **more) for k in range(total)]


def test_g2_resampling_importance_of_every_chunk() -> None:
    exact = 0
    for trace in published():
        ours = resampling_importances([c["accuracy"] for c in trace.chunks])
        theirs = [c["resampling_importance_accuracy"] for c in trace.chunks]
        assert ours == pytest.approx(theirs, abs=1e-12)
        exact += len(ours)
    assert exact == 2929 or not HALF


def test_g3_overdeterminedness_of_the_strings() -> None:
    seen: Counter[str] = Counter()
    for trace in published():
        for chunk, strings in list(zip(trace.chunks, trace.resampled, strict=True))[:-1]:
            if not strings:
                seen["no rollouts"] += 1
                continue
            n = implied(chunk, len(strings))
            if n is None:
                seen["no n"] += 1
                # Explained: an ungraded rollout counts in all but the accuracy.
                rest = implied_rollouts(
                    1.0,
                    chunk["different_trajectories_fraction"],
                    chunk["overdeterminedness"],
                    len(strings),
                )
                graded = implied_rollouts(chunk["accuracy"], 1.0, 1.0, rest or 0)
                assert rest is not None and graded is not None
                assert 0.9 * rest < graded < rest
            elif n == len(strings):
                assert overdeterminedness(strings) == pytest.approx(
                    chunk["overdeterminedness"], abs=1e-12
                )
                seen["exact"] += 1
            else:
                # The answerless ones were dropped and which they were is not published.
                distinct = round((1 - chunk["overdeterminedness"]) * n)
                most = len(set(strings))
                assert max(1, most - (len(strings) - n)) <= distinct <= min(most, n)
                seen["within bounds"] += 1
    assert seen["no n"] <= 0.003 * seen.total()
    if HALF:
        assert seen == {"exact": 2429, "within bounds": 200, "no n": 5, "no rollouts": 275}


def test_g4_counterfactual_importance_gives_whole_rollouts() -> None:
    """From the published figures to counts of rollouts, and back through the estimator."""
    seen: Counter[str] = Counter()
    for trace in published():
        for i, (chunk, strings) in enumerate(zip(trace.chunks, trace.resampled, strict=True)):
            if i + 1 == len(trace.chunks) or not strings:
                continue
            n = implied(chunk, len(strings))
            if n is None:
                seen["no n"] += 1
                continue
            theirs = chunk["counterfactual_importance_accuracy"]
            different = round(chunk["different_trajectories_fraction"] * n)
            next_accuracy = Fraction(trace.chunks[i + 1]["accuracy"]).limit_denominator(200)
            after = group(next_accuracy.numerator, next_accuracy.denominator)
            if not trace.resampled[i + 1]:
                after = []
                right = 0
                seen["nothing kept it"] += 1
            elif different == 0:
                right = 0
                seen["none different"] += 1
            else:
                exactly = (theirs + float(next_accuracy)) * different
                right = round(exactly)
                assert exactly == pytest.approx(right, abs=1e-6)
                seen["whole"] += 1
            similar_right = round(chunk["accuracy"] * n) - right
            if after:
                assert 0 <= right <= different
                assert 0 <= similar_right <= n - different
            here = [
                *group(right, different, similarity=0.1),
                *group(similar_right, n - different, similarity=0.9),
            ]
            ours = counterfactual_importance_accuracy(here, after)
            assert ours == pytest.approx(theirs, abs=1e-9)
            if after:
                row = chunk_figures([here, after])[0]
                for name in (
                    "accuracy",
                    "resampling_importance_accuracy",
                    "counterfactual_importance_accuracy",
                    "different_trajectories_fraction",
                ):
                    assert row[name] == pytest.approx(chunk[name], abs=1e-9), name
    assert seen["no n"] <= 0.003 * seen.total()
    if HALF:
        assert seen == {"whole": 2257, "none different": 370, "nothing kept it": 2, "no n": 5}


def test_chunks_without_rollouts_are_published_as_zeros() -> None:
    """The known fault: accuracy 0.0 where there are no rollouts, which fakes an importance."""
    empty = 0
    for trace in published():
        for i, strings in enumerate(trace.resampled):
            if not strings:
                assert chunk_figures([[], []])[0]["accuracy"] == trace.chunks[i]["accuracy"] == 0.0
                empty += 1
    assert empty == 277 or not HALF


def test_base_answers_and_verdicts() -> None:
    for trace in published():
        answer = first_boxed(trace.base["solution"])
        assert answer == trace.base["answer"]
        assert is_correct(answer, trace.problem["gt_answer"]) is trace.base["is_correct"]
