"""An agent's run as rows of the database: the run, its steps, and its tool calls. Pure."""

from __future__ import annotations

from tracelab.core.episode import Episode, Step, ToolCall
from tracelab.core.rows import EpisodeRow, StepRow, ToolCallRow
from tracelab.core.seam import Row
from tracelab.core.trace import Trace


def episode_rows(trace: Trace) -> list[Row]:
    """Rows of `episodes`, `steps` and `tool_calls` of a trace; none where it is no agent's run."""
    if (episode := trace.episode) is None:
        return []
    trace_id = trace.trace_id
    rows: list[Row] = [EpisodeRow.of(trace_id, episode)]
    rows += [StepRow.of(trace_id, s) for s in episode.steps]
    rows += _tool_calls(trace_id, episode)
    return rows


def _tool_calls(trace_id: str, episode: Episode) -> list[ToolCallRow]:
    """A row a call that a model asked for, with its result; and one a result that nobody asked for.

    A result belongs to the first call of its step that has its id, and its tool if one has; ids may
    repeat, and a call has one result.
    """
    results: dict[int | None, list[Step]] = {}
    for s in episode.steps:
        if s.kind == "tool":
            results.setdefault(s.parent, []).append(s)
    rows = []
    for s in episode.steps:
        for position, call in enumerate(s.calls):
            answer = _taken(results.get(s.index, []), call)
            rows.append(
                ToolCallRow(
                    trace_id=trace_id, unit_index=s.index, position=position, call_id=call.id,
                    tool=call.name, arguments=call.arguments.raw,
                    arguments_error=call.arguments.error,
                    result_step=None if answer is None else answer.index,
                    result=None if answer is None else answer.result,
                    error=answer is not None and "error" in answer.flags,
                )
            )  # fmt: skip
    for s in (s for left in results.values() for s in left):
        given = s.arguments
        rows.append(
            ToolCallRow(
                trace_id=trace_id, unit_index=s.index, position=0, call_id=s.tool_call_id,
                tool=s.tool, arguments=None if given is None else given.raw,
                arguments_error=None if given is None else given.error,
                result_step=s.index, result=s.result, error="error" in s.flags,
            )
        )  # fmt: skip
    return rows


def _taken(waiting: list[Step], call: ToolCall) -> Step | None:
    """The result of a call, taken from those that wait for one."""
    mine = [s for s in waiting if s.tool_call_id == call.id]
    named = [s for s in mine if s.tool == call.name]
    found = next(iter(named or (mine if call.id is not None else [])), None)
    if found is not None:
        waiting.remove(found)
    return found
