"""Runs of OpenHands: its events (a list, or `output.jsonl` with `history`), a run a record.

An action of the agent is a step with the call it makes, its observation the result. Calls that one
reply of the model made are one step. What only changes the state of the program is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.messages import text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, read_records
from tracelab.sources.agents.build import episode_of, reward_of, text_at
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "openhands"
_STATE = ("change_agent_state", "agent_state_changed", "null", "recall", "condensation")
_BESIDES = ("thought", "security_risk", "confirmation_state", "hidden", "blocking", "is_input")


def read_events(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each run; a list of events is one."""
    return read_records(path, seen, _episode, FORMAT, whole=_is_event)


def _episode(data: Any, path: Path, line: int) -> Episode:
    record = data if isinstance(data, dict) else {}
    raw = record.get("history", record.get("trajectory")) if isinstance(data, dict) else data
    if not isinstance(raw, list):
        raise BadRecordError("`history` is missing or not a list of events.", "history")
    events = [e for entry in raw for e in (entry if isinstance(entry, list) else [entry])]
    dropped: Counter[str] = Counter()
    steps = _steps(events, dropped)
    result = record.get("report", record.get("test_result"))
    held = result.get("report", result) if isinstance(result, dict) else {}
    resolved = held.get("resolved") if isinstance(held, dict) else None
    success, reward = reward_of(record.get("resolved", resolved))
    return episode_of(
        steps, path, line, format=FORMAT, dropped=dropped,
        name=text_or_none(record.get("instance_id")),
        task_id=text_or_none(record.get("instance_id")),
        task=text_or_none(record.get("instruction")),
        model=text_at(record, "metadata", "llm_config", "model"),
        version=text_at(record, "metadata", "agent_class"),
        success=success, reward=reward,
        meta={k: v for k, v in record.items() if k not in ("history", "trajectory")},
    )  # fmt: skip


def _steps(events: list[Any], dropped: Counter[str]) -> StepList:
    out = StepList()
    reply: tuple[str, int] | None = None
    for i, event in enumerate(events):
        if not isinstance(event, dict):
            raise BadRecordError(f"Event {i} is not an object.", "history")
        kind, args, place = event.get("action"), event.get("args"), f"event {i}"
        args = args if isinstance(args, dict) else {}
        seen = event.get("observation")
        if isinstance(seen, str) and seen not in _STATE:
            call = _call_id(event, event.get("cause"))
            text, flags = text_of(event.get("content"))
            if seen == "error":
                flags = (*flags, "error")
            if isinstance(event.get("extras"), dict) and event["extras"].get("exit_code") not in (
                0, None,
            ):  # fmt: skip
                flags = (*flags, "error")
            out.result(call if call and out.is_open(call) else None, text, flags, tool=seen,
                       place=place)  # fmt: skip
        elif not isinstance(kind, str) or kind in _STATE:
            dropped[f"events that only change the state ({kind or seen})"] += 1
        elif kind == "system":
            out.add(Step(0, "system", agent="system", content=text_of(args.get("content"))[0],
                         place=place))  # fmt: skip
        elif event.get("source") == "user":
            out.add(Step(0, "user", agent="user", content=text_of(args.get("content"))[0],
                         place=place))  # fmt: skip
        else:
            reply = _act(out, event, kind, args, reply, place)
    out.unanswered()
    return out


def _act(
    out: StepList, event: dict[str, Any], kind: str, args: dict[str, Any],
    reply: tuple[str, int] | None, place: str,
) -> tuple[str, int] | None:  # fmt: skip
    held = event.get("tool_call_metadata")
    told = held if isinstance(held, dict) else {}
    if kind == "message":
        text, flags = text_of(args.get("content"))
        out.add(Step(0, "llm", agent="agent", content=text, flags=flags, place=place))
        return None
    thought = text_or_none(args.get("thought")) or ""
    given = {k: v for k, v in args.items() if k not in _BESIDES and v not in ("", None)}
    name = text_or_none(told.get("function_name")) or kind
    call = ToolCall(name, Arguments.of(given), _call_id(event, event.get("id")))
    of = text_at(told, "model_response", "id")
    if of is not None and reply is not None and reply[0] == of:
        out.add_call(reply[1], call)
        return reply
    index = out.add(Step(0, "llm", agent="agent", content=thought, calls=(call,),
                         place=place))  # fmt: skip
    if kind in ("finish", "reject"):
        out.close(call)
    return None if of is None else (of, index)


def _call_id(event: dict[str, Any], number: Any) -> str | None:
    told = event.get("tool_call_metadata")
    named = text_or_none(told.get("tool_call_id")) if isinstance(told, dict) else None
    return named or (None if number is None else f"event {number}")


def _is_event(data: Any) -> bool:
    return isinstance(data, dict) and "source" in data and ("action" in data
                                                            or "observation" in data)  # fmt: skip


@SOURCES.register(FORMAT, order=30)
class OpenHands(SourceFormat):
    """Runs of OpenHands: a list of events, or `output.jsonl`."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_events)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        data = head.data
        inside = head.record.get("history", data)
        first = inside[0] if isinstance(inside, list) and inside else None
        first = first[0] if isinstance(first, list) and first else first
        return _is_event(first)
