"""From graded rollouts to scores and links: every method the config asks for, trace by trace.

The same function serves a run that has just ended and one that is rebuilt from its journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from tracelab.core.finding import Link, Score
from tracelab.core.item import Rollout
from tracelab.engines.similarity import load
from tracelab.run.config import RunConfig
from tracelab.stats.divergence import fdr_adjust
from tracelab.stats.value_curve import Prior
from tracelab.studies.anchors import (
    certify,
    counterfactual,
    distribution,
    force,
    links,
    pooled,
    resample,
)
from tracelab.studies.anchors.annotate import Annotator
from tracelab.studies.anchors.published import recipe as legacy
from tracelab.studies.anchors.rounds import count, fit_prior
from tracelab.studies.anchors.subject import Study

_COMPARING = {"counterfactual", "links", "thought-anchors"}


@dataclass(slots=True)
class Estimates:
    """All numbers of a run."""

    scores: list[Score] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)

    def add(self, other: Estimates) -> None:
        """Take the numbers of another method."""
        self.scores += other.scores
        self.links += other.links


def annotator(config: RunConfig) -> Annotator:
    """What completes rollouts; loads an embedding model only if some method compares sentences."""
    r = config.resample
    similarity = load(r.similarity) if _COMPARING & set(r.methods) else None
    return Annotator(similarity, echoes="links" in r.methods, threshold=links.SIMILAR)


def estimate(config: RunConfig, studies: Sequence[Study], similarity: str | None) -> Estimates:
    """All scores and links of all traces.

    Args:
        config: Which methods, and their levels.
        studies: The traces with their rollouts.
        similarity: Name of what compared sentences, if anything did.
    """
    r = config.resample
    found = Estimates()
    for s in studies:
        # Workers answer in any order, and a journal is read in another; permutations and
        # bootstraps would differ with it.
        s.rollouts.sort(key=_place)
        s.forced.sort(key=_place)
    prior = fit_prior([count(s, r) for s in studies]) if r.pooled else None
    for s in studies:
        rng = np.random.default_rng([config.seed, int(s.trace.trace_id, 16)])
        found.scores += _resampled(config, s, prior, rng)
        trace = s.trace.trace_id
        if "counterfactual" in r.methods:
            found.scores += counterfactual.estimate(
                trace, s.units, s.rollouts, similarity_name=str(similarity), rng=rng,
                threshold=r.threshold, level=r.level,
            )  # fmt: skip
        if "force" in r.methods:
            found.scores += force.estimate(trace, s.units, s.forced, rng=rng, level=r.level)
        if "links" in r.methods:
            found.links += links.estimate(
                trace, s.units, s.rollouts, similarity_name=str(similarity), level=r.level
            )
        if "thought-anchors" in r.methods:
            forced = s.forced if "force" in r.methods else None
            found.scores += legacy.scores(trace, s.units, s.rollouts, forced=forced, level=r.level)
            found.links += legacy.links(trace, s.units, s.rollouts, level=r.level)
    return found


def _place(rollout: Rollout) -> tuple[str, int]:
    return rollout.item_key, rollout.replicate


def _resampled(
    config: RunConfig, study: Study, prior: Prior | None, rng: np.random.Generator
) -> list[Score]:
    r, trace, units = config.resample, study.trace.trace_id, study.units
    counts = count(study, r)
    scores = resample.estimate(
        trace, units, counts, level=r.level, certify_below=r.delta if r.certificates else 0.0
    )
    found = with_fdr(scores)
    found += distribution.distribution_scores(
        trace,
        units,
        study.rollouts,
        rng=rng,
        level=r.level,
        p_keep=study.keep if r.certificates else None,
    )
    if prior is not None:
        found += pooled.estimate(trace, units, counts, prior, delta=r.delta, level=r.level)
    if study.keep is not None:
        found += certify.scores(trace, units, study.keep, r.level)
    return found


def with_fdr(scores: Sequence[Score]) -> list[Score]:
    """Add `p_adjusted` (Benjamini-Hochberg over one trace's sentences) where there is a `p`."""
    p = np.array([s.extra.get("p", np.nan) for s in scores], dtype=np.float64)
    adjusted = fdr_adjust(p)
    return [
        s if np.isnan(q) else replace(s, extra={**s.extra, "p_adjusted": float(q)})
        for s, q in zip(scores, adjusted, strict=True)
    ]
