"""Counterfactual importance: what if this sentence had said something else?

Two groups of rollouts are compared for each sentence i. *Kept*: those from boundary i + 1, plus
those that replaced i by something similar. *Different*: those that replaced it by something not
similar (Thought Anchors, arXiv:2506.19143, "counterfactual importance"). The groups share no
rollout, so they are two independent samples. Positive = the sentence raised the reward; the
authors' code has the opposite sign.

Also what the model might have written instead: `different_fraction`, `overdetermined`,
`entropy_before`.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracelab.core.finding import Findings, Metric, Score
from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.stats.divergence import entropy, log_odds_difference
from tracelab.stats.intervals import jeffreys, wilson
from tracelab.studies.anchors import distribution
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.grouping import (
    INSIDE_TOKEN,
    MIN_ROLLOUTS,
    Grouped,
    Ints,
    group,
)
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.scoring import Answers, Make, distance_scores, make, with_fdr

METHOD = "counterfactual"

_COPY = 1 - 1e-6  # a cosine above it is the same text

Floats = NDArray[np.float64]


def median_threshold(similarities: ArrayLike) -> float | None:
    """The cosine below which a replacement counts as different: the median, as in the paper.

    Where many replacements share one cosine, the cut falls on that side of it which splits them
    more evenly, and never above that of a copy.

    Args:
        similarities: Cosines of replaced sentences; NaN are ignored.

    Returns:
        None without any.
    """
    s = np.asarray(similarities, dtype=np.float64)
    s = s[~np.isnan(s)]
    if not s.size:
        return None
    m = float(np.median(s))
    above = float(np.nextafter(m, np.inf))
    uneven = [abs(2 * int((s < c).sum()) - s.size) for c in (m, above)]
    cut = m if uneven[0] <= uneven[1] else above
    return min(cut, _COPY)


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    similarity_name: str,
    rng: np.random.Generator,
    threshold: float | None = None,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Score]:
    """Counterfactual scores of every unit of one trace.

    Metrics, each one score a unit:
        delta_value: mean reward of kept minus different, in [-1, 1]. With 0/1
            rewards `extra` has the difference of log-odds (nats, Haldane-Anscombe) too.
        tv, js: distance of the two groups' answer distributions (`stats.contrast`); `extra` has
            the permutation `p` and `p_adjusted`, over the trace's units (Benjamini-Hochberg).
        different_fraction: P(the model writes something different at i); Wilson interval.
        overdetermined: 1 - distinct / total of the sentences written at i, where rollouts that
            kept the unit wrote its own text. It falls with the number of rollouts, so it has no
            interval; `collision` in `extra`, the probability that two rollouts write the same
            sentence, does not depend on it.
        entropy_before: Entropy (nats) of the sentence written at i, Miller-Madow; low where many
            sentences were seen once, and without an interval for that reason.

    "Kept" is what the model writes at i that is the sentence or like it, in the proportion in which
    it writes them: rollouts from after the sentence, however many there are, weigh as much as the
    sentence itself is written among the two. (Pooled as they come, as in the paper, the number
    would depend on where rollouts were spent.)

    Args:
        trace_id: The trace.
        units: Its sentences, in order.
        rollouts: Its rollouts with `own_sentence` and `similarity`, any order. Those that leave
            without a similarity are counted as `n_unplaced` and belong to no group.
        similarity_name: What computed the similarities; goes into `extra`.
        rng: For permutations.
        threshold: Cosine below which a replacement is different; None is `median_threshold` of
            all the trace's replacements.
        level: Nominal coverage.
        min_rollouts: With fewer in a group what compares the groups is `insufficient`.
    """
    g = group(units, rollouts)
    cosine = _similarities(g)
    cut = median_threshold(cosine[g.left >= 0]) if threshold is None else threshold
    answers = Answers(g)
    least = max(min_rollouts, 1)
    scores: list[Score] = []
    for u in g.units:
        left, after, exact = g.left_in(u.index), g.at(u.index + 1), g.kept(u.index)
        known = left[~np.isnan(cosine[left])] if cut is not None else left[:0]
        near = known[cosine[known] >= cut] if cut is not None else known
        far = np.setdiff1d(known, near, assume_unique=True)
        share = exact.size / (exact.size + near.size) if exact.size + near.size else 1.0
        kept = _in_proportion(after, near, share)
        score = make(trace_id, u.kind, u.index, METHOD, level)
        base: dict[str, object] = {
            "threshold": cut,
            "similarity": similarity_name,
            "n_kept": int(after.size + near.size),
            "n_different": int(far.size),
            "n_similar": int(near.size),
            "n_unplaced": int(left.size - known.size),
        }
        whole = g.splittable(u.index)
        if not whole:
            base["reason"] = INSIDE_TOKEN
        both = whole and min(kept.size, far.size) >= least
        groups = Groups(g.reward[far], g.reward[after], g.reward[near], share, exact.size)
        scores += _value(score, groups, both, base, level)
        scores += distance_scores(score, answers.compare(kept, far, both, level, rng), base)
        n = int(exact.size + known.size)
        lo, hi = (float(v) for v in wilson(far.size, n, level))
        ok = whole and (cut is not None or not left.size) and n >= least
        fraction = float(far.size / n) if ok else None
        scores.append(score("different_fraction", fraction, n=n, interval=(lo, hi), extra=base))
        scores += _diversity(score, g, u, left, int(exact.size), least)
    return with_fdr(scores)


def _similarities(g: Grouped) -> Floats:
    """Cosine of each rollout's own sentence, [R]; NaN where unknown, -1 where it wrote nothing."""
    out = np.full(len(g.rollouts), np.nan)
    for k, r in enumerate(g.rollouts):
        if r.own_sentence is not None and not r.own_sentence.strip():
            out[k] = -1.0
        elif r.similarity is not None:
            out[k] = r.similarity
    return out


@dataclass(frozen=True, slots=True)
class Groups:
    """Rewards of what the value of a sentence is computed from.

    Attributes:
        far: Of rollouts that wrote something different at i.
        after: Of samples from behind the sentence.
        near: Of rollouts that wrote something like it.
        share: The sentence's own among what is kept, `n_exact / (n_exact + near.size)`; 1 if the
            model wrote neither.
        n_exact: Rollouts at i that wrote exactly the sentence.
    """

    far: Floats
    after: Floats
    near: Floats
    share: float
    n_exact: int


def _in_proportion(after: Ints, near: Ints, share: float) -> Ints:
    """Samples of both kinds of which `after` is a share; what there is too much of is thinned."""
    if share in (0.0, 1.0) or not (after.size and near.size):
        return after if share > 0 else near
    most = min(after.size / share, near.size / (1 - share))
    wanted = (max(1, round(most * share)), max(1, round(most * (1 - share))))
    parts = (a[np.linspace(0, a.size - 1, k).astype(np.int64)]
             for a, k in zip((after, near), wanted, strict=True))  # fmt: skip
    return np.concatenate(list(parts))


def _value(
    score: Make, x: Groups, enough: bool, base: dict[str, object], level: float
) -> list[Score]:
    n = x.far.size + x.after.size + x.near.size
    extra = {**base, "share_exact": x.share}
    parts = [(x.after, x.share), (x.near, 1 - x.share)]
    parts = [(rewards, w) for rewards, w in parts if w > 0]
    if not enough or any(not rewards.size for rewards, _ in parts):
        return [score("delta_value", None, n=n, extra=extra)]
    means = [float(rewards.mean()) for rewards, _ in parts]
    kept = sum(w * m for m, (_, w) in zip(means, parts, strict=True))
    gap = kept - float(x.far.mean())
    # Each part's own interval, in quadrature (Zou and Donner 2008), and what the share adds.
    far_lo, far_hi = jeffreys(x.far.sum(), x.far.size, level)
    below, above = float(far_hi - x.far.mean()) ** 2, float(x.far.mean() - far_lo) ** 2
    for mean, (rewards, w) in zip(means, parts, strict=True):
        lo, hi = jeffreys(rewards.sum(), rewards.size, level)
        below, above = below + (w * float(mean - lo)) ** 2, above + (w * float(hi - mean)) ** 2
    if len(parts) == 2:
        lo, hi = jeffreys(x.n_exact, x.n_exact + x.near.size, level)
        low, high = (x.share - float(lo)), (float(hi) - x.share)
        slope = means[0] - means[1]
        below += (slope * (low if slope > 0 else high)) ** 2
        above += (slope * (high if slope > 0 else low)) ** 2
    if np.isin(np.concatenate([x.far, x.after, x.near]), (0.0, 1.0)).all():
        size = sum(rewards.size for rewards, _ in parts)
        arms = (float(x.far.sum()), x.far.size, kept * size, size, level)
        extra["log_odds"] = [float(v) for v in log_odds_difference(*arms)]
    ends = max(gap - below**0.5, -1.0), min(gap + above**0.5, 1.0)
    return [score("delta_value", gap, n=n, interval=ends, extra=extra)]


def _diversity(
    score: Make, g: Grouped, unit: Unit, left: Ints, n_exact: int, least: int
) -> list[Score]:
    written = [t for k in left if (t := g.rollouts[k].own_sentence) is not None]
    seen = Counter(" ".join(t.split()) for t in written)
    if n_exact:
        seen[" ".join(unit.text.split())] += n_exact
    counts = np.asarray(list(seen.values()), dtype=np.float64)
    n = int(counts.sum())
    whole = g.splittable(unit.index)
    ok = whole and n >= least
    extra: dict[str, object] = {
        "n_distinct": len(seen),
        "n_unplaced": int(left.size) - len(written),
    }
    if not whole:
        extra["reason"] = INSIDE_TOKEN
    if n > 1:
        extra["collision"] = float((counts * (counts - 1)).sum() / (n * (n - 1)))
    return [
        score("overdetermined", 1 - len(seen) / n if ok else None, n=n, extra=extra),
        score("entropy_before", entropy(counts) if ok else None, n=n, extra=extra),
    ]


@METHODS.register(METHOD, order=2)
class Counterfactual(Method):
    """Kept against different."""

    help = "what if this sentence had said something else?"
    metrics = (
        Metric(
            "delta_value", "reward", "the sentence raised the expected reward", -1, 1, MIN_ROLLOUTS
        ),
        *distribution.METRICS,
        Metric("different_fraction", "share", lo=0, hi=1, least=MIN_ROLLOUTS),
        Metric("overdetermined", "share", lo=0, hi=1, least=MIN_ROLLOUTS),
        Metric("entropy_before", "nats", lo=0, least=MIN_ROLLOUTS),
    )
    compares = True

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Counterfactual scores of every sentence."""
        o = cohort.options
        return Findings(
            estimate(
                case.trace_id,
                case.units,
                case.rollouts,
                similarity_name=cohort.similarity,
                rng=rng,
                threshold=o.threshold,
                level=o.level,
            )
        )
