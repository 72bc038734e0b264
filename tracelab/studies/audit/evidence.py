"""What made a model take a step: the context ablation of the bad action.

The method is that of context attribution (`tracelab.studies.cite.context`,
`tracelab.studies.cite.ablate`): the messages before the action are cut into sources, each is kept
or deleted by a fair coin, the recorded action is scored after what is left, and the effect of a
source is what keeping it does to the action's log-odds, on average over what else is kept. Where
a correction is known, the same is asked of the recorded action *rather than* the correction (a
contrast): the task and the plan make both likelier, and only what caused the mistake tells them
apart. Effects are in nats, positive when the source made the bad action likelier. They say what
that decision depended on, not what it did to the outcome.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.item import Item, Observation
from tracelab.core.seam import RecordedRun
from tracelab.core.unit import Unit
from tracelab.stats.masks import Design, anchors, concatenate
from tracelab.stats.surrogate import whole_logit
from tracelab.store.cite_rows import TargetRow
from tracelab.studies.audit.rerun import Rerunner
from tracelab.studies.cite.ablate import attribute, plan
from tracelab.studies.cite.context import Context, Message, Mode, ablate
from tracelab.studies.cite.grounding import GAIN, label
from tracelab.studies.cite.parts import Cut, from_messages
from tracelab.studies.cite.place import place_sources

_TOP = 3
_MOST = {"sentence": 96, "paragraph": 192, "message": 1024}
"""Sources that a run may have to be cut so finely: ablations are few, so sources must be too."""
_ROLES = ("system", "user", "assistant", "tool")
_EXCERPT = 200

Floats = np.ndarray


@dataclass(frozen=True, slots=True)
class Question:
    """An action to explain.

    Attributes:
        trace_id: Trace of the run.
        run: The run.
        action: Index of the action.
        instead: What should have been written; None when nothing is known that would.
    """

    trace_id: str
    run: RecordedRun
    action: int
    instead: str | None = None


@dataclass(slots=True)
class Dependence:
    """What an action depended on.

    Attributes:
        messages: At most three of `{message, role, target, effect, lo, hi, text}`, the
            largest effect first. Only what surely raised the action, by `GAIN` nats or more: an
            empty list says that nothing in the context made the model err, or nothing was scored.
        context: The messages and their sources; None where there is none.
        units: The sources as units of kind `span`; characters are those of the rendered prompt.
        targets: The action, and the contrast to its correction.
        scores: Effect and weight of every source on every target.
    """

    messages: list[dict[str, Any]] = field(default_factory=list)
    context: Context | None = None
    units: list[Unit] = field(default_factory=list)
    targets: list[TargetRow] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)


@dataclass(slots=True)
class _Ablation:
    """A question with its masks, and the keys of what is scored after each."""

    question: Question
    context: Context
    units: list[Unit]
    design: Design
    keys: list[list[str | None]]
    """For each text, a key for each mask; None where the template refuses the messages."""
    sizes: list[int]


def dependences(
    rerunner: Rerunner, questions: Sequence[Question], *, masks: int, level: float
) -> list[Dependence]:
    """What each action depended on.

    Args:
        rerunner: Knows the model, its template and the engines.
        questions: The actions.
        masks: Ablations of each.
        level: Coverage of the intervals.
    """
    items: dict[str, Item] = {}
    asked = [_ask(rerunner, q, masks, items) for q in questions]
    found: dict[str, float] = {}

    def take(batch: list[Observation]) -> None:
        found.update({o.key: o.logprob for o in batch if o.logprob is not None})

    if items:
        rerunner.observe("evidence", list(items.values()), take)
    return [_Reader(rerunner, a, found, level).read() if a else Dependence() for a in asked]


def _rng(rerunner: Rerunner, q: Question) -> np.random.Generator:
    return np.random.default_rng([rerunner.seed, int(q.trace_id.encode().hex()[:24], 16), q.action])


def _ask(rerunner: Rerunner, q: Question, masks: int, items: dict[str, Item]) -> _Ablation | None:
    before, tools, chat = q.run.before[q.action], q.run.offered_at(q.action), rerunner.chat
    texts = [q.run.actions[q.action], *([q.instead] if q.instead is not None else [])]
    try:
        context = _context(q)
        _, places = place_sources(lambda messages: chat.text(messages, tools), context)
        targets = [chat.written(before, text) for text in texts]
    except PlanError:  # no message can be a source, or the template refuses
        return None
    units = [
        Unit("span", i, a, b, 0, 0, s.text)
        for i, (s, (a, b)) in enumerate(zip(context.sources, places, strict=True))
    ]
    random = next(plan(len(units), masks, rng=_rng(rerunner, q)))
    design = concatenate([random, anchors(len(units))])
    mode = _mode(rerunner, context, tools)
    keys: list[list[str | None]] = [[] for _ in texts]
    for kept in design.masks:
        try:
            left = [m.for_template() for m in ablate(context, [bool(k) for k in kept], mode)]
            prompt = chat.prompt(left, tools)
        except PlanError:
            for column in keys:
                column.append(None)
            continue
        for column, target in zip(keys, targets, strict=True):
            item = Item(rerunner.model, prompt, target_ids=target)
            items[item.key] = item
            column.append(item.key)
    return _Ablation(q, context, units, design, keys, [len(t) for t in targets])


def _mode(rerunner: Rerunner, context: Context, tools: Sequence[Any]) -> Mode:
    """Delete, unless the template refuses messages that have nothing left in them."""
    nothing = [m.for_template() for m in ablate(context, [False] * len(context.sources))]
    try:
        rerunner.chat.text(nothing, tools)
    except PlanError:
        return "placeholder"
    return "delete"


def _context(q: Question) -> Context:
    """The messages before an action, cut as finely as can be afforded."""
    messages = [
        Message(
            m["role"], str(m.get("content") or ""),
            {k: v for k, v in m.items() if k not in ("role", "content")},
        )
        for m in q.run.before[q.action]
    ]  # fmt: skip
    for unit, most in _MOST.items():
        try:
            return from_messages(messages, Cut(unit=unit, most=most, roles=_ROLES))  # type: ignore[arg-type]
        except PlanError:
            if unit == "message":
                raise
    raise AssertionError("the last unit returns or raises")


@dataclass(frozen=True, slots=True)
class _Reader:
    """From log-probabilities to effects."""

    rerunner: Rerunner
    asked: _Ablation
    found: dict[str, float]
    level: float

    def read(self) -> Dependence:
        a, q = self.asked, self.asked.question
        out = Dependence(context=a.context, units=a.units)
        logprobs = [
            np.array([self.found.get(k or "", np.nan) for k in column]) for column in a.keys
        ]
        step = q.run.steps[q.action]
        effects = self._target(out, f"action:{step}", logprobs[0], None)
        if q.instead is not None:
            contrast = logprobs[0] - logprobs[1]
            told = self._target(out, f"contrast:{step}", contrast, q.instead)
            effects = told if any(s.value is not None for s in told) else effects
        known = [s for s in effects if (s.value or 0) >= GAIN and s.lo is not None and s.lo > 0]
        best = sorted(known, key=lambda s: (-(s.value or 0.0), s.unit_index))[:_TOP]
        out.messages = [self._message(s) for s in best]
        return out

    def _target(
        self, out: Dependence, name: str, logprob: Floats, instead: str | None
    ) -> list[Score]:
        """Add a target with its scores; returns the effects of the messages."""
        a, q = self.asked, self.asked.question
        kind = "action" if instead is None else "contrast"
        y = logprob if kind == "contrast" else whole_logit(logprob)
        made = attribute(
            q.trace_id, out.units, a.design, y, target=name, tokens=a.sizes[0], level=self.level,
            rng=_rng(self.rerunner, q),
        )  # fmt: skip
        effects = [s for s in made.scores if s.metric == "effect"]
        full, empty = (
            float(x) if np.isfinite(x := logprob[a.design.purposes.index(purpose)]) else None
            for purpose in ("full", "empty")
        )
        out.targets.append(
            TargetRow(
                trace_id=q.trace_id, target=name, position=len(out.targets), kind=kind,
                text=q.run.actions[q.action], rather_than=instead, n_tokens=a.sizes[0],
                logprob_full=full, logprob_empty=empty,
                label=label(full, empty, a.sizes[0], effects, contrast=kind == "contrast"),
                ablations=made.n,
            )
        )  # fmt: skip
        out.scores += made.scores
        return effects

    def _message(self, s: Score) -> dict[str, Any]:
        source = self.asked.context.sources[s.unit_index]
        ends = {k: round(v, 4) for k, v in (("lo", s.lo), ("hi", s.hi)) if v is not None}
        return {
            "message": source.message, "role": self.asked.context.messages[source.message].role,
            "target": s.target, "effect": round(s.value or 0.0, 4), **ends,
            "text": source.text.strip()[:_EXCERPT],
        }  # fmt: skip
