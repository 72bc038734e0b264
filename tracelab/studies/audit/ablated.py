"""What a bad action was ablated of, as rows: the pieces, and where each stands in its run. Pure.

The trace of an agent's run has two turns, the task and the transcript. A message of a model's
input is a step of the transcript, or the task, or neither (a prompt that the log has only in
inputs); pieces of the last kind have no place (0 to 0 of the task).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tracelab.core.episode import Episode, Step, StepKind
from tracelab.core.unit import Unit
from tracelab.store.cite_rows import SpanRow, TargetRow
from tracelab.studies.audit.evidence import Dependence
from tracelab.studies.cite.context import Context, Message, Source

_KINDS: dict[str, StepKind] = {"assistant": "llm", "tool": "tool", "user": "user"}
_TASK, _TRANSCRIPT = 0, 1


@dataclass(frozen=True, slots=True)
class AblatedContext:
    """What an audit ablated of one run."""

    trace_id: str
    units: tuple[Unit, ...]
    spans: tuple[SpanRow, ...]
    targets: tuple[TargetRow, ...]

    @classmethod
    def made(cls, trace_id: str, found: Dependence, episode: Episode) -> AblatedContext | None:
        """Of what was found of an episode's action; None where nothing was ablated."""
        if found.context is None or not found.targets:
            return None
        spans = _spans(trace_id, found.context, episode)
        return cls(trace_id, tuple(found.units), tuple(spans), tuple(found.targets))

    def to_json(self) -> dict[str, Any]:
        """As JSON; `of` inverts it."""
        return asdict(self)

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> AblatedContext:
        """Read it back."""
        return cls(
            data["trace_id"],
            tuple(Unit(**u) for u in data["units"]),
            tuple(SpanRow(**s) for s in data["spans"]),
            tuple(TargetRow(**t) for t in data["targets"]),
        )


def _spans(trace_id: str, context: Context, episode: Episode) -> list[SpanRow]:
    steps = episode.step_units()
    places = matched(context.messages, episode.steps)
    rows = []
    for i, source in enumerate(context.sources):
        step, content = places[source.message], context.messages[source.message].content
        turn, start, end = _TASK, 0, 0
        if step is not None:
            at = steps[step].start + max(0, steps[step].text.find(content))
            turn, start, end = _TRANSCRIPT, at + source.start, at + source.end
        elif content == episode.task:
            start, end = source.start, source.end
        rows.append(_row(trace_id, i, source, turn, start, end))
    return rows


def _row(trace_id: str, i: int, s: Source, turn: int, start: int, end: int) -> SpanRow:
    return SpanRow(trace_id, i, turn, start, end, s.document, s.paragraph, s.whole)


def matched(messages: Sequence[Message], steps: Sequence[Step]) -> list[int | None]:
    """The step that each message is: the next one of its kind that says the same."""
    places: dict[tuple[StepKind, str], list[int]] = {}
    for s in steps:
        places.setdefault((s.kind, s.content), []).append(s.index)
    found: list[int | None] = []
    for m in messages:
        waiting = places.get((_KINDS.get(m.role, "system"), m.content))
        found.append(waiting.pop(0) if waiting else None)
    return found
