"""Golden G5: the published summaries from the published matrices; and the paper's averages."""

from __future__ import annotations

import numpy as np
import pytest

from tests.golden.anchors_data import HALF, published
from tests.golden.published_summary import converged_from, figure_means, summarize
from tests.shared import needs_shared

pytestmark = needs_shared


def test_g5_summaries() -> None:
    done = 0
    for trace in published():
        if trace.matrix is None:
            continue
        n = trace.summary["num_chunks"]
        matrix = np.zeros((n, n))
        for row in trace.matrix:
            for impact in row["target_impacts"]:
                matrix[row["source_chunk_idx"], impact["target_chunk_idx"]] = impact[
                    "importance_score"
                ]
        ours, theirs = summarize(matrix), trace.summary
        assert ours.avg_importance == pytest.approx(theirs["avg_importance"], abs=1e-12)
        assert ours.max_importance == theirs["max_importance"]
        assert ours.min_importance == theirs["min_importance"]
        for name, top, means, key in (
            ("top_influential_steps", ours.top_influential, ours.outgoing, "outgoing"),
            ("top_dependent_steps", ours.top_dependent, ours.incoming, "incoming"),
        ):
            assert list(top) == [s["step_idx"] for s in theirs[name]]
            published_means = [s[f"avg_{key}_importance"] for s in theirs[name]]
            assert means[list(top)] == pytest.approx(published_means, abs=1e-12)
        done += 1
    assert done == 19 or not HALF


def test_plans_weigh_more_than_computation_in_kl_and_not_in_accuracy() -> None:
    """The paper's figure; and that the same rollouts' accuracies do not show it."""
    if not HALF:
        pytest.skip("the figures are those of the half that is present here")
    chunks = [trace.chunks for trace in published()]

    def ratio(metric: str) -> float:
        means = figure_means(chunks, metric, category=lambda c: c["function_tags"][0])
        return means["plan_generation"].mean / means["active_computation"].mean

    assert 1.7 < ratio("counterfactual_importance_kl") < 2.1
    assert ratio("forced_importance_kl") < ratio("counterfactual_importance_kl")


def test_the_traces_that_converge_are_cut() -> None:
    cut = [converged_from([c["accuracy"] for c in trace.chunks]) for trace in published()]
    for trace, at in zip(published(), cut, strict=True):
        if at is not None:
            window = [c["accuracy"] for c in trace.chunks[at : at + 4]]
            assert min(window) > 0.99 or max(window) < 0.01
    assert any(at is not None for at in cut)
