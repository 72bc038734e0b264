"""A trace under study: its reasoning cut into sentences, and what was seen of it so far. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import Rollout
from tracelab.core.seam import Grading
from tracelab.core.study import Case
from tracelab.core.trace import TokenizedTrace, Trace, tokenized_units
from tracelab.studies.anchors.grouping import Ints
from tracelab.text.categories import categorize
from tracelab.text.segment import reasoning_range, segment


@dataclass(slots=True)
class Reasoning(Case):
    """A trace on tokens, its sentences, and its rollouts so far.

    Attributes:
        keep: P(the model writes exactly each unit, given what is before it) [N], if known.
        asked: Rollouts asked for at each boundary so far [N + 1]; empty before the first.
        rollouts: Its rollouts, in the order in which they came.
        forced: Its forced answers, likewise.
        failed: How many of both could not be had.
        held: What methods keep of it while they work, by method.
    """

    keep: list[float] | None = None
    asked: Ints = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    rollouts: list[Rollout] = field(default_factory=list)
    forced: list[Rollout] = field(default_factory=list)
    failed: int = 0
    held: dict[str, Any] = field(default_factory=dict)

    def sort(self) -> None:
        """Put rollouts in an order that does not depend on who answered first.

        Sums of rewards, permutations and bootstraps would differ with it.
        """
        self.rollouts.sort(key=_place)
        self.forced.sort(key=_place)


def _place(rollout: Rollout) -> tuple[str, int]:
    return rollout.item_key, rollout.replicate


def begin(
    tokens: TokenizedTrace, segmenter: str, *, max_units: int, context_length: int
) -> Reasoning:
    """Cut a trace's reasoning into sentences.

    Raises:
        PlanError: It has none, too many, or does not fit the model's context.
    """
    size = len(tokens.prompt_ids) + len(tokens.response_ids)
    if size >= context_length:
        raise PlanError(
            f"needs {size} tokens ({len(tokens.prompt_ids)} of them prompt), but the model's "
            f"context holds {context_length}"
        )
    text = tokens.trace.response
    start, end = reasoning_range(text)
    spans = [(start + s.start, start + s.end) for s in segment(text[start:end], segmenter)]
    if not spans:
        raise PlanError("the response has no reasoning to study")
    if len(spans) > max_units:
        raise PlanError(f"has {len(spans)} sentences, more than anchors.max_units = {max_units}")
    units = tokenized_units(tokens, spans, roles=_roles(tokens.trace, spans))
    categories = [categorize(u.text, index=u.index, total=len(units)) for u in units]
    return Reasoning(tokens, units, segmenter, categories=[*categories])


def _roles(trace: Trace, spans: Sequence[tuple[int, int]]) -> list[str | None]:
    """Known roles of the units: that of the labelled range which a unit overlaps most."""
    known: Iterable[Sequence[Any]] = trace.extra.get("roles", ())
    roles: list[str | None] = []
    for start, end in spans:
        overlap = [(min(end, e) - max(start, s), role) for s, e, role in known]
        best = max(overlap, default=(0, None), key=lambda x: x[0])
        roles.append(best[1] if best[0] > 0 else None)
    return roles


def gradable(trace: Trace, grading: Grading) -> Trace:
    """Complete a trace with its own answer and with what its rollouts are rewarded for.

    Raises:
        PlanError: No rollout of it could ever be graded.
    """
    answer = grading.own_answer(trace)
    kind = grading.reward_kind(trace.reference, answer)
    if kind is None:
        raise PlanError(
            "has no reference, and no final answer that grading can find, so no rollout of it "
            "could be graded"
        )
    return replace(trace, answer=answer, extra={**trace.extra, "reward_kind": kind})
