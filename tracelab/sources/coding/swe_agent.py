"""Trajectories of SWE-agent (`.traj`): `history` is what the model saw, `trajectory` what it did.

What the model wrote stays as it wrote it; the command it held is the argument of the tool step
that follows, whose result is the observation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step
from tracelab.core.messages import calls_of, reasoning_of, text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, read_documents
from tracelab.sources.agents.build import episode_of
from tracelab.sources.agents.dialects import Plain, messages
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, Head
from tracelab.sources.registry import SOURCES

FORMAT = "swe-agent"


_REPEATED = ("thought", "action", "tool_call_ids", "tags", "is_demo")


def read_trajectory(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of the file."""
    return read_documents(path, seen, _episode, lines=False)


def _episode(data: Any, path: Path, line: int) -> Episode:
    if not isinstance(data, dict):
        raise BadRecordError("The record is not a JSON object.")
    dropped: Counter[str] = Counter()
    done = [s for s in _list(data.get("trajectory")) if isinstance(s, dict)]
    told = _list(data.get("history"))
    steps = _told(told, dropped) if told else _done(done)
    info = data.get("info")
    info = info if isinstance(info, dict) else {}
    known = ("history", "trajectory")
    return episode_of(
        steps, path, line, format=FORMAT, dropped=dropped,
        name=text_or_none(data.get("instance_id")) or path.name.removesuffix(".traj"),
        task_id=text_or_none(data.get("instance_id")),
        answer=text_or_none(info.get("submission")),
        version=text_or_none(info.get("swe_agent_version")),
        meta={k: v for k, v in data.items() if k not in known},
    )  # fmt: skip


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _told(history: list[Any], dropped: Counter[str]) -> StepList:
    out, node = StepList(), None
    action: tuple[int, str] | None = None
    for number, raw in enumerate(history):
        place = f"history[{number}]"
        agent = text_or_none(raw.get("agent")) if isinstance(raw, dict) else None
        held = raw
        if isinstance(raw, dict) and isinstance(ids := raw.get("tool_call_ids"), list) and ids:
            held = {**raw, "tool_call_id": ids[0]}
        if isinstance(held, dict):  # what its content holds too, or how it was shown
            held = {k: v for k, v in held.items() if k not in _REPEATED}
        for message in messages([held], dropped):
            text, flags = text_of(message.get("content"))
            role = message["role"]
            if role == "assistant":
                out.unanswered()
                index = out.add(_written(message, text, flags, agent, node, place))
                said = raw.get("action") if isinstance(raw, dict) else None
                called = bool(out.steps[index].calls)
                action = (index, said) if isinstance(said, str) and said and not called else None
            elif role == "tool":
                out.result(text_or_none(message.get("tool_call_id")), text, flags, place=place)
            elif role == "user" and action is not None:
                out.add(_observed(action, text, agent, place))
                action = None
            else:
                kind = "user" if role == "user" else "system"
                out.add(Step(0, kind, agent=role, content=text, flags=flags, place=place))  # type: ignore[arg-type]
            node = out.store.extend(node, message)
    out.unanswered()
    return out


def _written(
    message: Plain, text: str, flags: tuple[str, ...], agent: str | None, node: str | None,
    place: str,
) -> Step:  # fmt: skip
    return Step(0, "llm", agent=agent or "assistant", content=text, calls=calls_of(message),
                input=node, flags=flags, reasoning=reasoning_of(message), place=place)  # fmt: skip


def _observed(action: tuple[int, str], text: str, agent: str | None, place: str) -> Step:
    index, said = action
    return Step(0, "tool", agent=agent, content=text, result=text, tool=_command(said),
                arguments=Arguments.of({"action": said}), parent=index, place=place)  # fmt: skip


def _command(action: str) -> str:
    """The command's name: the first word."""
    words = action.split(maxsplit=1)
    return words[0][:80] if words else "shell"


def _done(trajectory: list[dict[str, Any]]) -> StepList:
    """Steps of a file without a history: their inputs are not known."""
    out = StepList()
    for number, step in enumerate(trajectory):
        place = f"trajectory[{number}]"
        said = text_or_none(step.get("response")) or text_or_none(step.get("thought")) or ""
        index = out.add(Step(0, "llm", agent="assistant", content=said, place=place))
        action = step.get("action")
        if isinstance(action, str) and action:
            text, _ = text_of(step.get("observation"))
            out.add(_observed((index, action), text, None, place))
    return out


@SOURCES.register(FORMAT, order=30)
class SweAgent(SourceFormat):
    """Trajectories of SWE-agent, a run a file."""

    suffixes = (".traj", *DOCUMENTS)
    read = staticmethod(read_trajectory)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        if isinstance(head.record.get("trajectory"), list):
            return "history" in head.record or "info" in head.record
        return head.name.endswith(".traj") or head.shows(rb'"trajectory"\s*:\s*\[.*"observation"')
