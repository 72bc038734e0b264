"""A record and its response become a study: rendered, placed on tokens, and found to fit."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tracelab.core.errors import PlanError
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn
from tracelab.core.unit import Unit
from tracelab.engines.tokenizer import OPEN_THINK
from tracelab.sources.context import ContextRecord
from tracelab.studies.cite.context import Context, Mode
from tracelab.studies.cite.place import place_sources
from tracelab.studies.cite.subject import ChatTokenizer, ContextStudy
from tracelab.studies.cite.targets import resolve


@dataclass(frozen=True, slots=True)
class Recipe:
    """How contexts are studied; see `tracelab.run.config.ContextConfig`."""

    unit: str
    segmenter: str
    mode: Mode
    placeholder: str
    rendering: Rendering
    context_length: int


def prompt_of(record: ContextRecord, tokenizer: ChatTokenizer, recipe: Recipe) -> tuple[int, ...]:
    """Tokens of a record's whole prompt.

    Raises:
        PlanError: The template refuses it, or it leaves no room for a response.
    """
    text = tokenizer.chat_text([m.for_template() for m in record.context.messages],
                               recipe.rendering)  # fmt: skip
    ids = tokenizer.encode_prompt(text, recipe.rendering)
    if len(ids) >= recipe.context_length:
        raise PlanError(
            f"the prompt has {len(ids)} tokens, but the model's context holds "
            f"{recipe.context_length}"
        )
    return ids


def begin(
    record: ContextRecord,
    tokenizer: ChatTokenizer,
    recipe: Recipe,
    *,
    response: str | None = None,
    token_ids: Sequence[int] | None = None,
    model: str | None = None,
) -> ContextStudy:
    """A record with its response as a study.

    Args:
        record: The record.
        tokenizer: The model's.
        recipe: How.
        response: What the model wrote, for a record without a response.
        token_ids: Its tokens.
        model: The model's name.

    Raises:
        PlanError: It cannot be studied; one sentence.
    """
    rendering = recipe.rendering

    def render(messages: Sequence[Mapping[str, Any]]) -> str:
        return tokenizer.chat_text(messages, rendering)

    prompt, placed = place_sources(render, record.context)
    if record.acts is not None:
        response = _action_text(record, tokenizer, rendering, prompt)
    elif record.response is not None:
        response = record.response
        for tag in (OPEN_THINK + "\n", OPEN_THINK):
            if prompt.endswith(tag) and response.startswith(tag):
                response = response[len(tag) :]  # the prompt has opened the reasoning already
    if response is None or not response.strip():
        raise PlanError("there is no response to explain")
    prompt_ids, prompt_starts = tokenizer.place_prompt(prompt, rendering)
    ids, starts = tokenizer.place_response(response, token_ids)
    turns = tuple(m.turn() for m in record.context.messages)
    trace = Trace(
        turns=(*turns, Turn("assistant", response, token_ids=tuple(ids))),
        name=record.name,
        model=model,
        reference=record.reference,
        rendering=rendering,
        source=record.source,
        extra=dict(record.extra),
        line=record.line,
    )
    tokens = TokenizedTrace(trace, prompt_ids, ids, starts)
    targets, continuations = resolve(
        record.targets, tokens, tokenizer.encode_text, segmenter=recipe.segmenter
    )
    longest = len(prompt_ids) + max(c.after + len(c.ids) for c in continuations)
    if longest >= recipe.context_length:
        raise PlanError(
            f"the context and the response need {longest} tokens, but the model's context holds "
            f"{recipe.context_length}"
        )
    study = ContextStudy(
        tokens=tokens,
        context=record.context,
        units=_units(record.context, placed, prompt_starts, len(prompt_ids)),
        segmenter=f"{recipe.unit}/{recipe.segmenter}",
        targets=targets,
        continuations=continuations,
        mode=recipe.mode,
        placeholder=recipe.placeholder,
    )
    _make_valid(study, tokenizer)
    return study


def _action_text(
    record: ContextRecord, tokenizer: ChatTokenizer, rendering: Rendering, prompt: str
) -> str:
    """An assistant's message with tool calls, as the model would have written it.

    Raises:
        PlanError: The template does not render it as a continuation of the prompt.
    """
    acts = record.acts
    assert acts is not None
    before = [m.for_template() for m in record.context.messages]
    whole = tokenizer.chat_text([*before, acts.for_template()], rendering, ask=False)
    probe = tokenizer.chat_text(
        [*before, {"role": "assistant", "content": "\u2983end"}], rendering, ask=False
    )
    tail = probe.rpartition("\u2983end")[2]
    if not whole.startswith(prompt) or not whole.endswith(tail):
        raise PlanError(
            "the chat template renders the assistant's last message other than as a continuation "
            "of its prompt; give what the model wrote as `response`"
        )
    return whole[len(prompt) : len(whole) - len(tail)]


def _units(
    context: Context, placed: Sequence[tuple[int, int]], starts: Sequence[int], total: int
) -> list[Unit]:
    """Sources as units: characters and tokens of the rendered prompt."""
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


def _make_valid(study: ContextStudy, tokenizer: ChatTokenizer) -> None:
    """Find out whether the template lets whole messages go; if not, they leave a placeholder.

    Only the mode of a study as a whole is changed: masks of one design must mean one thing.

    Raises:
        PlanError: It refuses the placeholder too.
    """
    whole = [i for i, s in enumerate(study.context.sources) if s.whole]
    if study.mode != "delete" or not whole:
        return
    n = study.n
    tries = [tuple(j != i for j in range(n)) for i in whole] + [(False,) * n]
    try:
        for kept in tries:
            study.prompt(kept, 0, tokenizer)
    except PlanError as e:
        study.mode = "placeholder"
        study.notes.append(f"messages are replaced, not deleted: {e}")
        study.tokens = replace(
            study.tokens,
            trace=replace(study.trace, extra={**study.trace.extra, "ablation": study.notes[-1]}),
        )
        study.prompt((False,) * n, 0, tokenizer)
