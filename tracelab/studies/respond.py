"""Responses to prompts that have none yet, sampled as rollouts are: shared by studies. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from tracelab.core.errors import PlanError
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import Item, Observation
from tracelab.core.seam import GradeRequest, Reject
from tracelab.core.study import StudyContext
from tracelab.core.trace import Trace

BASE = "base"
"""Intervention of base traces: a boundary must never count the trace it belongs to as a sample."""

Keep: TypeAlias = Literal["first", "both"]
"""Of the responses to one prompt: the first, or the first right and the first wrong one."""


def respond(
    traces: Sequence[Trace], ctx: StudyContext[Any], *, attempts: int = 1, keep: Keep = "first"
) -> Flow[tuple[list[Trace], list[Reject]]]:
    """Let the model write the responses that traces lack.

    Args:
        traces: Traces; those that are answered are passed on as they are.
        ctx: Whose model, sampling and grading.
        attempts: Responses sampled for each prompt.
        keep: Which of them are kept; later ones are called `name#replicate`.

    Returns:
        The answered traces, in the order given, and what came of no use.
    """
    answered: list[Trace] = []
    rejects: list[Reject] = []
    for found in (yield from together(_responses(t, ctx, attempts, keep) for t in traces)):
        answered += found[0]
        rejects += found[1]
    return answered, rejects


def _responses(
    trace: Trace, ctx: StudyContext[Any], attempts: int, keep: Keep
) -> Flow[tuple[list[Trace], list[Reject]]]:
    if trace.answered:
        return [trace], []
    try:
        prefix = ctx.tokenizer.render(trace.turns, trace.rendering)
    except PlanError as e:
        return [], [Reject.of(trace, e)]
    item = Item(
        model=ctx.model,
        prefix_ids=prefix,
        sampling=replace(ctx.sampling, logprobs=True),
        seed=ctx.seed,
        replicates=attempts,
        intervention=BASE,
    )
    seen: list[Observation] = []
    room = max(1, ctx.context_length - len(prefix))
    yield Ask("base traces", [item], seen.extend, expected=[min(ctx.sampling.max_tokens, room)])
    seen.sort(key=lambda o: o.replicate)
    rejects = [Reject.of(trace, f"no base trace: {o.error}") for o in seen if o.error is not None]
    written = [o for o in seen if o.error is None]
    return _kept(trace, written if keep == "both" else written[:1], ctx), rejects


def _kept(trace: Trace, written: Sequence[Observation], ctx: StudyContext[Any]) -> list[Trace]:
    """Responses as graded traces, the first of each success."""
    responses = [
        replace(trace, name=trace.name if o.replicate == 0 else f"{trace.name}#{o.replicate}")
        .respond(
            o.text,
            model=ctx.model.name,
            token_ids=o.token_ids,
            token_logprobs=o.token_logprobs,
        )
        for o in written
    ]  # fmt: skip
    outcomes = ctx.grading.grade_many(
        [
            GradeRequest(o.text, trace.reference, None, o.finish_reason, response)
            for o, response in zip(written, responses, strict=True)
        ]
    )
    kept: dict[bool | None, Trace] = {}
    for response, outcome in zip(responses, outcomes, strict=True):
        known = outcome.reward is not None and trace.reference is not None
        success = outcome.reward == 1 if known else None
        answer = outcome.answer if outcome.status == "graded" else None
        kept.setdefault(success, replace(response, answer=answer, success=success))
    return list(kept.values())
