"""The published Thought Anchors recipe, whole: what `--compat thought-anchors` computes.

Chunks, answers, figures, matrix, summary and the figures' averages as the published code and data
have them (arXiv:2506.19143), so that published numbers recompute, signs, zeros and quirks
included; each is documented where it is defined. `docs/migrating-thought-anchors.md` says what
tracelab does instead by default. Pure.
"""

from __future__ import annotations

from tracelab.studies.anchors.published.answers import (
    FORCED_SUFFIX,
    first_boxed,
    grade,
    is_correct,
    normalize_answer,
)
from tracelab.studies.anchors.published.figures import (
    ALPHA,
    FORCED_METRICS,
    METRICS,
    THRESHOLD,
    GradedRollout,
    accuracy,
    chunk_figures,
    counterfactual_importance_accuracy,
    counterfactual_importance_kl,
    different_trajectories_fraction,
    forced_importance_accuracy,
    forced_importance_kl,
    implied_rollouts,
    kl,
    overdeterminedness,
    resampling_importance_accuracy,
    resampling_importance_kl,
    resampling_importances,
)
from tracelab.studies.anchors.published.matrix import (
    MATCH_THRESHOLD,
    importance_matrix,
    rollout_matches,
    step_matches,
)
from tracelab.studies.anchors.published.scores import ESTIMATOR_VERSION, METHOD, links, scores
from tracelab.studies.anchors.published.summary import (
    CategoryMean,
    MatrixSummary,
    converged_from,
    figure_means,
    summarize,
)
from tracelab.text.published import thought_anchors_chunks

SETTINGS: dict[str, object] = {
    "allocation": "uniform",
    "rollouts": 100,
    "segmenter": "thought-anchors",
    "threshold": THRESHOLD,
    "force_suffix": FORCED_SUFFIX,
    "certificates": False,
    "recycle": False,
    "pooled": False,
}
"""Keys of the config's `[resample]` that make a run sample as the published recipe does.

Two things of the recipe are not reproduced on purpose: a prefix is cut at the exact token instead
of being joined again with single spaces, and chunk i is taken out at its place only, not wherever
the same string occurs.
"""

__all__ = [
    "SETTINGS",
    "ALPHA",
    "ESTIMATOR_VERSION",
    "FORCED_METRICS",
    "FORCED_SUFFIX",
    "MATCH_THRESHOLD",
    "METHOD",
    "METRICS",
    "THRESHOLD",
    "CategoryMean",
    "GradedRollout",
    "MatrixSummary",
    "accuracy",
    "chunk_figures",
    "converged_from",
    "counterfactual_importance_accuracy",
    "counterfactual_importance_kl",
    "different_trajectories_fraction",
    "figure_means",
    "first_boxed",
    "forced_importance_accuracy",
    "forced_importance_kl",
    "grade",
    "implied_rollouts",
    "importance_matrix",
    "is_correct",
    "kl",
    "links",
    "normalize_answer",
    "overdeterminedness",
    "resampling_importance_accuracy",
    "resampling_importance_kl",
    "resampling_importances",
    "rollout_matches",
    "scores",
    "step_matches",
    "summarize",
    "thought_anchors_chunks",
]
