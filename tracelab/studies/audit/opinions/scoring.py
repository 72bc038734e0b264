"""How good are guesses and opinions about the decisive step? Exact integers, honest counts.

A prediction is right when its integer equals the label's. An opinion that could not be parsed was
asked and gave no usable answer: it counts as wrong, and is counted by kind. A call that failed
was never answered: it is missing, and the coverage says so. Agents are compared after
`fold_role`. A floor that spreads its mass scores the mass it puts on the truth.

Pure; the bootstrap takes its generator.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tracelab.core.episode import Episode, fold_role
from tracelab.stats.intervals import wilson
from tracelab.studies.audit.opinions.floors import Guess
from tracelab.studies.audit.opinions.judges import Opinion
from tracelab.studies.audit.opinions.parse import exact_step

MAX_K = 5
_CHUNK = 500


@dataclass(frozen=True, slots=True)
class CaseScore:
    """One method on one run.

    Attributes:
        step: Probability, mostly 0 or 1, that the step is exactly right; None when missing.
        agent: Likewise for the agent.
        within: For k = 0 .. 5, that the step is at most k away from the truth; None likewise.
        unparsed: Kinds of answers that could not be used.
        failed: The call failed: nothing is known.
    """

    step: float | None
    agent: float | None
    within: tuple[float, ...] | None
    unparsed: Counter[str] = field(default_factory=Counter)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """A share with its Wilson interval; None where nothing was counted. n cases."""

    value: float | None
    lo: float | None
    hi: float | None
    n: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired difference of accuracies on the same runs, with a percentile bootstrap interval.

    Attributes:
        value: Accuracy minus the other's; None with fewer than two common runs.
        lo: Lower end.
        hi: Upper end.
        p: One-sided: how often a resample shows no advantage.
        n: Common runs.
    """

    value: float | None
    lo: float | None
    hi: float | None
    p: float | None
    n: int


@dataclass(frozen=True, slots=True)
class MethodScore:
    """One method on all runs.

    Attributes:
        step: Exact step accuracy, of all labelled runs that were answered.
        agent: Exact agent accuracy.
        curve: Accuracy within ±k, k = 0 .. 5.
        cases: Labelled runs.
        unparsed: Runs without a usable step, by kind of failure of their answers.
        failed: Runs whose call failed.
    """

    step: Rate
    agent: Rate
    curve: tuple[Rate, ...]
    cases: int
    unparsed: Counter[str]
    failed: int


def score_guess(guess: Guess | None, episode: Episode) -> CaseScore:
    """Score a floor on one labelled run; a rule that does not apply is missing."""
    label = episode.label
    if label is None or guess is None:
        return CaseScore(None, None, None, failed=guess is None)
    agent = None if label.agent is None else guess.agents.get(fold_role(label.agent), 0.0)
    if label.step is None:
        return CaseScore(None, agent, None)
    within = tuple(
        min(1.0, sum(guess.steps[max(0, label.step - k) : label.step + k + 1]))
        for k in range(MAX_K + 1)
    )
    return CaseScore(within[0], agent, within)


def score_prediction(step: object, agent: str | None, episode: Episode) -> CaseScore:
    """Score a predicted step and agent, as given: see `exact_step` for what counts as a step."""
    label = episode.label
    if label is None:
        return CaseScore(None, None, None)
    found, failure = exact_step(step, len(episode.steps))
    hit = None
    if label.agent is not None:
        hit = float(agent is not None and fold_role(agent) == fold_role(label.agent))
    unparsed = Counter([failure] if failure else [])
    if label.step is None:
        return CaseScore(None, hit, None, unparsed)
    far = abs(found - label.step) if found is not None else MAX_K + 1
    within = tuple(float(far <= k) for k in range(MAX_K + 1))
    return CaseScore(within[0], hit, within, unparsed)


def score_opinion(opinion: Opinion, episode: Episode) -> CaseScore:
    """Score a judge's opinion of one labelled run."""
    if opinion.status in ("failed", "overlong"):
        return CaseScore(None, None, None, opinion.parse_failures, failed=True)
    score = score_prediction(opinion.step, opinion.agent, episode)
    return CaseScore(score.step, score.agent, score.within, opinion.parse_failures)


def summarise(scores: Sequence[CaseScore], level: float = 0.95) -> MethodScore:
    """Accuracies of one method with Wilson intervals.

    Args:
        scores: One a labelled run.
        level: Coverage of the intervals.
    """
    curves = [s.within for s in scores if s.within is not None]
    return MethodScore(
        step=_rate([s.step for s in scores], level),
        agent=_rate([s.agent for s in scores], level),
        curve=tuple(_rate([c[k] for c in curves], level) for k in range(MAX_K + 1)),
        cases=len(scores),
        unparsed=sum((s.unparsed for s in scores), Counter()),
        failed=sum(s.failed for s in scores),
    )


def _rate(values: Sequence[float | None], level: float) -> Rate:
    known = [v for v in values if v is not None]
    if not known:
        return Rate(None, None, None, 0)
    lo, hi = wilson(sum(known), len(known), level)
    return Rate(sum(known) / len(known), float(lo), float(hi), len(known))


def compare(
    ours: Sequence[float | None],
    theirs: Sequence[float | None],
    rng: np.random.Generator,
    *,
    resamples: int = 10_000,
    level: float = 0.95,
) -> Comparison:
    """Paired percentile bootstrap of the mean difference, over runs that both answered.

    Efron & Tibshirani (1993), ch. 13. The p-value is (1 + #{difference <= 0}) / (1 + resamples),
    and not less than that of the most extreme signs, 1 / 2^(runs that differ). Where all
    differences are one value, the ends are those of Wilson's bound on the share of others.

    Args:
        ours: Score of each run, in [0, 1].
        theirs: Score of the same runs.
        rng: Source of the resamples.
        resamples: How many.
        level: Nominal coverage.
    """
    pairs = zip(ours, theirs, strict=True)
    differences = np.array([a - b for a, b in pairs if a is not None and b is not None])
    n = len(differences)
    if n < 2:
        return Comparison(None, None, None, None, n)
    values, counts = np.unique(differences, return_counts=True)
    means = np.concatenate(
        [
            rng.multinomial(n, counts / n, size=min(_CHUNK, resamples - done)) @ values / n
            for done in range(0, resamples, _CHUNK)
        ]
    )
    tail = (1 - level) / 2
    lo, hi = np.quantile(means, [tail, 1 - tail])
    if len(values) == 1:
        # Resamples of one value are that value. Others have a chance of at most `unseen`.
        only, unseen = float(values[0]), float(wilson(0, n, level)[1])
        lo, hi = only - unseen * (1 + only), only + unseen * (1 - only)
    p = (1 + int((means <= 1e-12).sum())) / (1 + resamples)
    p = max(p, 0.5 ** int((differences != 0).sum()))  # of the signs, however they are resampled
    return Comparison(float(differences.mean()), float(lo), float(hi), min(p, 1.0), n)


def best_floor(floors: Mapping[str, Sequence[CaseScore]]) -> str:
    """The floor with the highest step accuracy on these very runs: a bar that is set high."""

    def accuracy(name: str) -> float:
        value = summarise(floors[name]).step.value
        return -1.0 if value is None else value

    return max(floors, key=accuracy)
