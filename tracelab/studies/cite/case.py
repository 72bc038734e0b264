"""From a trace to what is studied of it: rendered, placed on tokens, and found to fit. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tracelab.core.errors import PlanError
from tracelab.core.messages import as_message, as_turn, as_written, input_of, tools_offered
from tracelab.core.seam import Message, Tokenizer
from tracelab.core.study import Case, StudyContext
from tracelab.core.trace import TokenizedTrace, Trace, Turn
from tracelab.core.unit import Unit
from tracelab.studies.chat import Chat
from tracelab.studies.cite.answers.worth import answered, parsed
from tracelab.studies.cite.context import Context, Mode, ablate
from tracelab.studies.cite.cut import Cut, context_of, templated
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.place import place_sources
from tracelab.studies.cite.targets import Continuation, Target, parse_targets, resolve
from tracelab.text.tags import opened_by

_LISTED = 10
"""Steps that are named to who must choose one."""


@dataclass(slots=True)
class ContextCase(Case):
    """One context with its response. Its units are its sources, of kind `span`.

    Attributes:
        context: The messages before the response, and their sources.
        targets: What is explained.
        continuations: What is scored after each ablated prompt; the first is the response.
        mode: What stands in the place of an ablated source.
        tools: Definitions of the tools that the model was offered.
    """

    context: Context = field(kw_only=True)
    targets: tuple[Target, ...] = field(kw_only=True)
    continuations: tuple[Continuation, ...] = field(kw_only=True)
    mode: Mode = field(kw_only=True)
    tools: tuple[Message, ...] = field(default=(), kw_only=True)


def prompted(trace: Trace, ctx: StudyContext[CiteOptions]) -> Trace:
    """A trace with its prompt as the options want it: before a model answers it, too.

    Raises:
        PlanError: The template of the options is none.
    """
    if ctx.rendering in ("chat", "raw"):
        trace = replace(trace, rendering="raw" if ctx.rendering == "raw" else "chat")
    return templated(trace, ctx.options.template)


def case_of(trace: Trace, ctx: StudyContext[CiteOptions]) -> ContextCase:
    """What is studied of an answered trace, or of one step of an agent's run.

    The trace of a case is such a trace itself, and gives the same case again.

    Raises:
        PlanError: It cannot be studied; one sentence.
    """
    o = ctx.options
    if trace.episode is not None:
        trace = _at_step(trace, o.step, ctx.tokenizer)
    elif o.step != trace.extra.get("step"):
        raise PlanError(f"`--step {o.step}` is for logs of agents, and this is none")
    else:
        trace = prompted(trace, ctx)
    sampled = o.outcome == "answer"
    if sampled:
        trace = answered(trace, ctx)
    tools = tuple(trace.extra.get("tools", ())) if o.step is not None else ()
    chat = Chat(ctx.tokenizer, trace.rendering)
    cut = Cut(o.unit, o.segmenter, o.max_sources, tuple(o.roles), o.exchanges)
    context = context_of(trace, cut)
    chat.refuse_left_out([as_message(m) for m in context.messages], tools)
    prompt, placed = place_sources(lambda messages: chat.text(messages, tools), context)
    response, known = _written(trace, chat, prompt)
    prompt_ids, prompt_starts = ctx.tokenizer.place_prompt(prompt, trace.rendering)
    ids, starts = ctx.tokenizer.place_response(response, known)
    trace = replace(trace, turns=(*trace.prompt, Turn("assistant", response, token_ids=ids)))
    tokens = TokenizedTrace(trace, prompt_ids, ids, starts)
    wanted = trace.extra.get("target") if o.target is None else o.target
    specs = parsed(wanted, o) if sampled else parse_targets(wanted)
    encode = ctx.tokenizer.encode_text
    targets, continuations = resolve(specs, tokens, encode, segmenter=o.segmenter)
    longest = len(prompt_ids) + max(c.after + len(c.ids) for c in continuations)
    if longest >= ctx.context_length:
        raise PlanError(
            f"the context and the response need {longest} tokens, but the model's context holds "
            f"{ctx.context_length}"
        )
    case = ContextCase(
        tokens,
        units_of(context, placed, prompt_starts, len(prompt_ids)),
        f"{o.unit}/{o.segmenter}",
        context=context,
        targets=targets,
        continuations=continuations,
        mode=o.mode,
        tools=tools,
    )
    return _valid(case, chat, o.placeholder)


def units_of(
    context: Context, placed: Sequence[tuple[int, int]], starts: Sequence[int], total: int
) -> list[Unit]:
    """Sources as units: characters and tokens of the rendered prompt.

    Args:
        context: The sources.
        placed: Where each stands in the prompt, characters.
        starts: Where each token of the prompt starts.
        total: How many tokens it has.
    """
    units = []
    for i, (source, (a, b)) in enumerate(zip(context.sources, placed, strict=True)):
        first = bisect_left(starts, a)
        end = bisect_left(starts, b) if b > a else first
        units.append(
            Unit(
                kind="span", index=i, start=a, end=b, token_start=min(first, total),
                token_end=min(end, total), text=source.text, role=source.role,
            )
        )  # fmt: skip
    return units


def _at_step(trace: Trace, step: int | None, tokenizer: Tokenizer) -> Trace:
    """What a model was given and wrote at a step of a run."""
    episode = trace.episode
    assert episode is not None
    written = [s.index for s in episode.steps if s.kind == "llm"]
    if not written:
        raise PlanError("no step of this agent's run was written by a model")
    listed = ", ".join(map(str, written[:_LISTED])) + (", ..." if len(written) > _LISTED else "")
    which = f"a model wrote {len(written)} steps: {listed}"
    if step is None:
        raise PlanError(f"it is an agent's run; choose one of its steps with `--step N` ({which})")
    if step not in written:
        raise PlanError(f"step {step} was not written by a model ({which})")
    at = episode.steps[step]
    chat, message, tools = Chat(tokenizer), as_written(at), tools_offered(episode, at)
    messages = chat.inlined(input_of(episode, at))
    more: dict[str, Any] = {"run": trace.trace_id, "step": step, "agent": at.agent}
    try:
        response = chat.spell(messages, message, tools)
    except PlanError:  # a log of another model: what it said can be explained all the same
        response = chat.words(messages, message, tools)
        more["spelling"] = "the words alone: they do not continue this model's prompt"
    if tools:
        more["tools"] = [dict(t) for t in tools]
    return Trace(
        turns=(*map(as_turn, messages), Turn("assistant", response)),
        name=f"{trace.name} step {step}",
        model=trace.model,
        reference=trace.reference,
        source=trace.source,
        extra=more,
        line=trace.line,
    )


def _written(trace: Trace, chat: Chat, prompt: str) -> tuple[str, tuple[int, ...] | None]:
    """The response as the model wrote it after the prompt, and its tokens where known."""
    if not trace.answered:
        raise PlanError("there is no response to explain")
    last, response = trace.turns[-1], trace.response
    if last.fields.get("tool_calls"):
        try:
            response = chat.spell([as_message(t) for t in trace.prompt], as_message(last))
        except PlanError as e:
            raise PlanError(f"{e}; give what the model wrote as `response`") from None
    elif last.token_ids is None:
        if tag := opened_by(prompt, response):  # the prompt has opened the reasoning already
            response = response.lstrip().removeprefix(tag)
            if prompt.endswith("\n"):
                response = response.removeprefix("\n")
    if not response.strip():
        raise PlanError("there is no response to explain")
    return response, last.token_ids


def _valid(case: ContextCase, chat: Chat, placeholder: str) -> ContextCase:
    """Find out whether the template lets whole messages go; if not, they leave a placeholder.

    Only the mode of a case as a whole is changed: masks of one design must mean one thing.

    Raises:
        PlanError: It refuses the placeholder too.
    """
    whole = [i for i, s in enumerate(case.context.sources) if s.whole]
    if case.mode != "delete" or not whole:
        return case
    n = len(case.units)

    def render(kept: tuple[bool, ...], mode: Mode) -> None:
        left = ablate(case.context, kept, mode, placeholder=placeholder)
        chat.text([as_message(m) for m in left], case.tools)

    try:
        for kept in (*(tuple(j != i for j in range(n)) for i in whole), (False,) * n):
            render(kept, "delete")
    except PlanError as e:
        render((False,) * n, "placeholder")
        note = f"messages are replaced, not deleted: {e}"
        trace = replace(case.trace, extra={**case.trace.extra, "ablation": note})
        return replace(case, mode="placeholder", tokens=replace(case.tokens, trace=trace))
    return case
