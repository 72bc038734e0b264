"""What made a model act as it did: the ablation of the messages before a recorded action.

The messages are cut into sources as finely as can be afforded, each is kept or ablated by a fair
coin, the action is scored after what is left, and the effect of a source is what keeping it does to
the action's log-odds, on average over what else is kept. Where a better text is known, the same is
asked of the action *rather than* it (a contrast): the task and the plan make both likelier, and
only what caused the mistake tells them apart. Effects are in nats, positive when the source made
the action likelier. They say what that decision depended on, not what it did to the outcome. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Item, Observation
from tracelab.core.messages import as_message, as_turn
from tracelab.core.seam import Message
from tracelab.core.study import StudyContext
from tracelab.core.unit import Unit
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Design, anchors, concatenate
from tracelab.stats.surrogate import whole_logit
from tracelab.studies.chat import Chat
from tracelab.studies.cite.attribution import SpanScores
from tracelab.studies.cite.context import Context, Mode, ablate
from tracelab.studies.cite.cut import Cut, Grain, from_messages
from tracelab.studies.cite.grounding import GAIN, label, some_act
from tracelab.studies.cite.methods.ablate import attribute
from tracelab.studies.cite.methods.registry import ALWAYS
from tracelab.studies.cite.place import place_sources
from tracelab.studies.cite.plan import plan
from tracelab.studies.cite.rows import TargetRow

_MOST: tuple[tuple[Grain, int], ...] = (("sentence", 96), ("paragraph", 192), ("message", 1024))
"""Sources that a run may have to be cut so finely: ablations are few, so sources must be too."""
_ROLES = ("system", "user", "assistant", "tool")
_TOP = 3
_EXCERPT = 200


@dataclass(slots=True)
class Dependence:
    """What an action depended on.

    Attributes:
        context: The messages and their sources.
        units: The sources as units of kind `span`; characters are those of the rendered prompt.
        targets: The action, and the contrast to the better text.
        scores: Effect and weight of every source on every target.
        messages: At most three of `{message, role, target, effect, lo, hi, text}`, the largest
            effect first. Only what surely raised the action, by `GAIN` nats or more: an empty list
            says that nothing in the context made the model act so, or nothing was scored.
    """

    context: Context
    units: list[Unit]
    targets: list[TargetRow] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)


def measure_action(
    ctx: StudyContext[Any],
    chat: Chat,
    trace_id: str,
    step: int,
    messages: Sequence[Message],
    action: str,
    *,
    tools: Sequence[Message] = (),
    instead: str | None = None,
    ablations: int,
    level: float,
    seed: Sequence[int],
) -> Flow[Dependence | None]:
    """Measure what an action depended on.

    Args:
        ctx: What the study was given; of it, the model.
        chat: The model's template.
        trace_id: Trace of the run.
        step: Index of the action's step, for the names of targets: `action:3`, `contrast:3`.
        messages: The messages before the action.
        action: What the model wrote, exactly as it follows the generation prompt.
        tools: Definitions of the tools that it was offered.
        instead: What should have been written; None when nothing is known that would.
        ablations: Masks.
        level: Coverage of the intervals.
        seed: Of the coins, and of the folds of the fit.

    Returns:
        None where nothing can be ablated: no message can be a source, or the template refuses.
    """
    texts = [action, *([] if instead is None else [instead])]
    try:
        context = _context(messages)
        _, places = place_sources(lambda some: chat.text(some, tools), context)
        written = [chat.written(messages, text) for text in texts]
    except PlanError:
        return None
    units = [
        Unit("span", i, a, b, 0, 0, s.text)
        for i, (s, (a, b)) in enumerate(zip(context.sources, places, strict=True))
    ]
    random = next(plan(len(units), ablations, rng=np.random.default_rng(seed)))
    design = concatenate([random, anchors(len(units))])
    mode = _mode(chat, context, tools)
    items: dict[str, Item] = {}
    keys = np.full((len(texts), len(design)), "", dtype=object)
    for i, kept in enumerate(design.masks):
        try:
            left = [as_message(m) for m in ablate(context, [bool(k) for k in kept], mode)]
            prompt = chat.prompt(left, tools)
        except PlanError:
            continue
        for j, ids in enumerate(written):
            item = Item(ctx.model, prompt, target_ids=ids)
            items[item.key] = item
            keys[j, i] = item.key
    heard: dict[str, float] = {}

    def take(batch: Sequence[Observation]) -> None:
        heard.update({o.key: o.logprob for o in batch if o.logprob is not None})

    yield Ask("evidence", list(items.values()), take)
    logprobs = np.array([[heard.get(k, np.nan) for k in row] for row in keys])
    out = Dependence(context, units)
    size = len(written[0])

    def target(name: str, logprob: Floats, other: str | None) -> list[Score]:
        make = SpanScores(trace_id, units, ALWAYS, f"{name}:{step}", level)
        return _add(out, make, design, logprob, seed, action, other, size)

    effects = target("action", logprobs[0], None)
    if instead is not None:
        told = target("contrast", logprobs[0] - logprobs[1], instead)
        effects = told if any(s.value is not None for s in told) else effects
    sure = [s for s in effects if (s.value or 0) >= GAIN and s.lo is not None and s.lo > 0]
    best = sorted(sure, key=lambda s: (-(s.value or 0.0), s.unit_index))[:_TOP]
    out.messages = [_message(context, s) for s in best]
    return out


def _add(
    out: Dependence,
    make: SpanScores,
    design: Design,
    logprob: Floats,
    seed: Sequence[int],
    action: str,
    other: str | None,
    size: int,
) -> list[Score]:
    """Add a target with its scores; returns the effects of the sources."""
    y = whole_logit(logprob) if other is None else logprob
    made = attribute(make, design, y, rng=np.random.default_rng(seed))
    effects = [s for s in made.scores if s.metric == "effect"]
    full, empty = (
        float(x) if np.isfinite(x := logprob[design.purposes.index(purpose)]) else None
        for purpose in ("full", "empty")
    )
    out.targets.append(
        TargetRow(
            trace_id=make.trace_id, target=make.target, position=len(out.targets),
            kind="action" if other is None else "contrast", text=action, rather_than=other,
            n_tokens=size, logprob_full=full, logprob_empty=empty, logprob_alone=empty,
            # Nothing of the response stands before it.
            label=label(
                full, empty, size, effects, acts=some_act(made), alone=empty,
                contrast=other is not None,
            ),
            ablations=made.n,
        )
    )  # fmt: skip
    out.scores += made.scores
    return effects


def _mode(chat: Chat, context: Context, tools: Sequence[Message]) -> Mode:
    """Delete, unless the template refuses messages that have nothing left in them."""
    nothing = [as_message(m) for m in ablate(context, [False] * len(context.sources))]
    try:
        chat.text(nothing, tools)
    except PlanError:
        return "placeholder"
    return "delete"


def _context(messages: Sequence[Message]) -> Context:
    """The messages before an action, cut as finely as can be afforded."""
    turns = [as_turn(m) for m in messages]
    for unit, most in _MOST:
        try:
            return from_messages(turns, Cut(unit=unit, most=most, roles=_ROLES))
        except PlanError:
            if unit == "message":
                raise
    raise AssertionError("the last unit returns or raises")


def _message(context: Context, s: Score) -> dict[str, Any]:
    source = context.sources[s.unit_index]
    ends = {k: round(v, 4) for k, v in (("lo", s.lo), ("hi", s.hi)) if v is not None}
    return {
        "message": source.message, "role": context.messages[source.message].role,
        "target": s.target, "effect": round(s.value or 0.0, 4), **ends,
        "text": source.text.strip()[:_EXCERPT],
    }  # fmt: skip
