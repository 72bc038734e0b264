"""What a sampled answer counts for each target of a response, in [0, 1]. Pure.

    answer        1 where the answer is the response's own, as grading compares answers
    reward        its reward
    similarity    how alike the target and the most similar of its sentences are, 0 where opposite

The first two are about the response as a whole, and know no other target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import TRUNCATED, Observation, Outcome
from tracelab.core.seam import Comparing, GradeRequest, Grading
from tracelab.core.study import StudyContext
from tracelab.core.trace import Trace
from tracelab.stats.lasso import Floats
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.targets import Target, TargetSpec, parse_targets
from tracelab.text.segment import segment

_WHOLE = ("response", "action")


@dataclass(frozen=True, slots=True)
class Counted:
    """One sampled answer.

    Attributes:
        worth: What it counts for each target [targets]; None where it failed or is ungraded.
        outcome: Its grade, where it was graded.
        truncated: Whether the limit of tokens came before its end, or before its answer.
    """

    worth: Floats | None
    outcome: Outcome | None = None
    truncated: bool = False


def answered(trace: Trace, ctx: StudyContext[CiteOptions]) -> Trace:
    """A trace with its own answer, found to be comparable with others.

    Raises:
        PlanError: No sampled answer could ever be compared with it.
    """
    o = ctx.options
    if o.compare == "similarity":
        return trace
    own = ctx.grading.own_answer(trace)
    if o.compare == "answer" and own is None:
        raise PlanError(
            "the response has no final answer that grading can find, so no other could be the "
            'same; choose another `grading.kind`, or compare = "similarity"'
        )
    if ctx.grading.reward_kind(trace.reference, own) is None:
        raise PlanError("has no reference, and no final answer, so no answer could be rewarded")
    return replace(trace, answer=own)


def parsed(value: object, options: CiteOptions) -> tuple[TargetSpec, ...]:
    """Targets that sampled answers can be compared with; see `parse_targets`.

    Raises:
        PlanError: It is none of these.
    """
    if options.compare != "similarity":
        if value not in (None, "response"):
            raise PlanError(
                f'compare = "{options.compare}" is about the response as a whole; to explain '
                'another target by sampled answers, choose compare = "similarity"'
            )
        return (TargetSpec("response"),)
    specs = parse_targets(value)
    if any(s.kind == "contrast" for s in specs):
        raise PlanError('a contrast of two texts needs log-probabilities: outcome = "logprob"')
    return specs


def compared(
    heard: Sequence[Observation],
    trace: Trace,
    targets: Sequence[Target],
    options: CiteOptions,
    grading: Grading,
    comparing: Comparing | None,
) -> list[Counted]:
    """What sampled answers count, in order.

    Args:
        heard: The answers; failed ones count for nothing.
        trace: The response that they are compared with, completed by `answered`.
        targets: What is explained.
        options: The study's.
        grading: Grades answers.
        comparing: Compares sentences, where that is asked.
    """
    good = [o for o in heard if o.error is None]
    if comparing is not None:
        found = [_alike(o, targets, comparing, options.segmenter) for o in good]
    else:
        found = _graded(good, trace, options, grading)
    told = iter(found)
    return [next(told) if o.error is None else Counted(None) for o in heard]


def _graded(
    heard: Sequence[Observation], trace: Trace, options: CiteOptions, grading: Grading
) -> list[Counted]:
    same, own = options.compare == "answer", trace.answer
    asked = [
        GradeRequest(o.text, None if same else trace.reference, own, o.finish_reason, trace)
        for o in heard
    ]
    # Some kinds of grading compare with nothing: then answers are the same by their category.
    compares = grading.reward_kind(None, own) == "own_answer"
    found = []
    for outcome in grading.grade_many(asked):
        worth = outcome.reward
        if same and worth is not None:
            worth = float(outcome.answer == own or (compares and worth == 1))
        value = None if worth is None else np.array([worth])
        found.append(Counted(value, outcome, outcome.truncated))
    return found


def _alike(o: Observation, targets: Sequence[Target], by: Comparing, segmenter: str) -> Counted:
    sentences = [t for s in segment(o.text, segmenter) if (t := s.text.strip())]
    cut = o.finish_reason == "length"
    if not sentences:
        return Counted(np.zeros(len(targets)), None, cut)
    cosines = by.matrix([*sentences, o.text.strip()], [t.text.strip() for t in targets])
    whole = np.array([t.kind in _WHOLE for t in targets])
    worth = np.where(whole, cosines[-1], cosines.max(axis=0))
    return Counted(np.clip(np.asarray(worth, dtype=np.float64), 0.0, 1.0), None, cut)


def lost(heard: Sequence[Counted]) -> tuple[int, int, int]:
    """How many were ungraded, truncated, and unanswered."""
    graded = [c.outcome for c in heard if c.outcome is not None]
    cut = sum(c.truncated for c in heard)
    none = sum(o.status == "unanswered" and not o.truncated for o in graded)
    return sum(o.status == "ungraded" for o in graded), cut, none


def columns(counted: Counted) -> dict[str, Any]:
    """What of it the row of an answer says."""
    outcome, worth = counted.outcome, counted.worth
    cut = f"{TRUNCATED}: the limit of tokens came before its end" if counted.truncated else None
    return {
        "worth": None if worth is None else [float(w) for w in worth],
        "answer": None if outcome is None else outcome.answer,
        "reward": None if outcome is None else outcome.reward,
        "grade_status": None if outcome is None else outcome.status,
        "grade_detail": cut if outcome is None else outcome.detail,
    }
