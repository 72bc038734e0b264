"""What a bad action was ablated of, as rows: the pieces, and where each stands in its run. Pure.

The trace of an agent's run has two turns, the task and the transcript. A message of a model's
input is a step of the transcript, or the task, or neither (a prompt that the log has only in
inputs); pieces of the last kind have no place (0 to 0 of the task).
"""

from __future__ import annotations

from collections.abc import Sequence

from tracelab.core.episode import SEGMENTER, Episode, Step, StepKind
from tracelab.core.rows import UnitRow
from tracelab.core.seam import Row
from tracelab.core.trace import Turn
from tracelab.studies.cite.action import Dependence
from tracelab.studies.cite.context import Context, ContextSource
from tracelab.studies.cite.rows import SpanRow

_KINDS: dict[str, StepKind] = {"assistant": "llm", "tool": "tool", "user": "user"}
_TASK, _TRANSCRIPT = 0, 1


def ablated_rows(trace_id: str, found: Dependence | None, episode: Episode) -> list[Row]:
    """Rows of `units`, `spans` and `targets`: what was ablated of an episode's action, if any."""
    if found is None or not found.targets:
        return []
    units = [
        UnitRow(trace_id, u.kind, u.index, SEGMENTER, u.start, u.end, 0, 0, u.text)
        for u in found.units
    ]
    return [*units, *_spans(trace_id, found.context, episode), *found.targets]


def _spans(trace_id: str, context: Context, episode: Episode) -> list[SpanRow]:
    steps = episode.step_units()
    places = matched(context.messages, episode.steps)
    rows = []
    for i, source in enumerate(context.sources):
        step, content = places[source.message], context.messages[source.message].text
        turn, start, end = _TASK, 0, 0
        if step is not None:
            at = steps[step].start + max(0, steps[step].text.find(content))
            turn, start, end = _TRANSCRIPT, at + source.start, at + source.end
        elif content == episode.task:
            start, end = source.start, source.end
        rows.append(_row(trace_id, i, source, turn, start, end))
    return rows


def _row(trace_id: str, i: int, s: ContextSource, turn: int, start: int, end: int) -> SpanRow:
    return SpanRow(trace_id, i, turn, start, end, s.document, s.paragraph, s.whole)


def matched(messages: Sequence[Turn], steps: Sequence[Step]) -> list[int | None]:
    """The step that each message is: the next one of its kind that says the same."""
    places: dict[tuple[StepKind, str], list[int]] = {}
    for s in steps:
        places.setdefault((s.kind, s.content), []).append(s.index)
    found: list[int | None] = []
    for m in messages:
        waiting = places.get((_KINDS.get(m.role, "system"), m.text))
        found.append(waiting.pop(0) if waiting else None)
    return found
