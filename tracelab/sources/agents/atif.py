"""ATIF v1.x (Agent Trajectory Interchange Format): one JSON document a run.

Read after the public specification (harbor-framework RFC 0001); no dependency. An agent's step is
an `llm` step, and each of its tool calls a `tool` step with the observation that answers it. The
exact input is stored where a step has `metrics.prompt_token_ids`; ATIF has no other record of it.
Embedded subagent trajectories follow the result that refers to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step, StepKind, ToolCall
from tracelab.core.messages import reasoning_of, text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, count_or_none, read_documents
from tracelab.sources.agents.openai_chat import outcome_of
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

PREFIX = "ATIF-v1."
_MAX_NESTING = 16
_KINDS: dict[Any, StepKind] = {"system": "system", "user": "user", "agent": "llm"}


def read_atif(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each document: a `.json` file is one, other files hold one a line."""
    return read_documents(path, seen, _episode, lines=not path.name.lower().endswith(".json"))


def _episode(data: Any, path: Path, line: int) -> Episode:
    if not isinstance(data, dict):
        raise BadRecordError("The document is not a JSON object.")
    schema = data.get("schema_version")
    if not isinstance(schema, str) or not schema.startswith(PREFIX):
        raise BadRecordError(f"`schema_version` is not {PREFIX}x.", "schema_version")
    out, notes = StepList(), list[str]()
    agent = _dict(data.get("agent"))
    _append(out, data, notes, 0)
    extra = _dict(data.get("extra"))
    success, reward = outcome_of(extra)
    name = text_or_none(data.get("trajectory_id")) or text_or_none(data.get("session_id"))
    skipped = ("steps", "subagent_trajectories", "agent")
    return Episode(
        name=name or (f"{path.name}:{line}" if line else path.stem),
        steps=tuple(out.steps),
        format="atif",
        source=str(path),
        line=line,
        task=next((s.content for s in out.steps if s.kind == "user"), ""),
        task_id=text_or_none(extra.get("task_id")),
        model=text_or_none(agent.get("model_name")),
        version=text_or_none(agent.get("version")),
        success=success,
        reward=reward,
        reference=text_or_none(extra.get("reference")),
        messages=out.store.messages,
        inputs=out.store.inputs,
        meta={k: v for k, v in data.items() if k not in skipped},
        notes=tuple(notes),
    )


def _append(out: StepList, data: dict[str, Any], notes: list[str], level: int) -> None:
    """Append the steps of a trajectory and of those it embeds."""
    if level > _MAX_NESTING:
        raise BadRecordError(f"Subagents are nested more than {_MAX_NESTING} levels deep.")
    steps = data.get("steps")
    if not isinstance(steps, list):
        raise BadRecordError("`steps` is missing or not a list.", "steps")
    agent = _dict(data.get("agent"))
    name = text_or_none(agent.get("name")) or "agent"
    definitions = agent.get("tool_definitions")
    tools = out.store.put(definitions) if definitions else None
    embedded = _Embedded(_list(data.get("subagent_trajectories")))
    ids: list[Any] = []
    for i, item in enumerate(steps):
        kind = _KINDS.get(str(item.get("source"))) if isinstance(item, dict) else None
        if kind is None:
            raise BadRecordError(f"`steps[{i}]` is not a step with a known source.", "steps")
        ids.append(item.get("step_id"))
        _add(out, item, kind, name, tools, f"steps[{i}]")
        for result in _list(_dict(item.get("observation")).get("results")):
            by = None if _list(item.get("tool_calls")) else name if kind == "llm" else "environment"
            _add_result(out, result, by, f"steps[{i}]")
            for sub in embedded.referred(result):
                _append_sub(out, sub, notes, level)
        out.unanswered()
    if ids != list(range(1, len(ids) + 1)):
        notes.append("The step ids are not 1, 2, ...; steps are taken in the order of the file.")
    for sub in embedded.left():
        notes.append("An embedded subagent that no result refers to stands at the end.")
        _append_sub(out, sub, notes, level)


def _append_sub(out: StepList, sub: dict[str, Any], notes: list[str], level: int) -> None:
    inner = StepList()
    inner.store = out.store
    _append(inner, sub, notes, level + 1)
    first = len(out.steps)
    for step in inner.steps:
        parent = first - 1 if step.parent is None else step.parent + first
        out.place(step, None if parent < 0 else parent)


def _add(
    out: StepList, item: dict[str, Any], kind: StepKind, name: str, tools: str | None, place: str
) -> None:
    text, flags = text_of(item.get("message"))
    metrics = _dict(item.get("metrics"))
    calls = tuple(
        ToolCall(
            text_or_none(c.get("function_name")) or "unknown",
            Arguments.of(c.get("arguments", "")),
            text_or_none(c.get("tool_call_id")),
        )
        for c in _list(item.get("tool_calls"))
        if isinstance(c, dict)
    )
    ids = metrics.get("prompt_token_ids")
    llm = kind == "llm"
    out.add(
        Step(
            index=0,
            kind=kind,
            agent=name if llm else str(item["source"]),
            content=text,
            calls=calls,
            input=out.store.chain([{"prompt_token_ids": ids}]) if llm and ids else None,
            tools=tools if llm else None,
            prompt_tokens=count_or_none(metrics.get("prompt_tokens")),
            output_tokens=count_or_none(metrics.get("completion_tokens")),
            flags=(*flags, "copied_context") if item.get("is_copied_context") is True else flags,
            reasoning=reasoning_of(item) if llm else "",
            place=place,
        )
    )


def _add_result(out: StepList, result: Any, by: str | None, place: str) -> None:
    """Add a result of a step's calls; of a step without calls it is what `by` was shown."""
    if not isinstance(result, dict):
        result = {"content": result}
    text, flags = text_of(result.get("content"))
    call_id = text_or_none(result.get("source_call_id"))
    if by is not None and call_id is None:
        out.add(Step(0, "tool", agent=by, content=text, result=text, flags=flags,
                     place=place))  # fmt: skip
    else:
        out.result(call_id, text, flags, place=place)


class _Embedded:
    """Embedded trajectories, each taken once: by the first result that names it, or at the end."""

    def __init__(self, given: list[Any]) -> None:
        self._all = {i: sub for i, sub in enumerate(given) if isinstance(sub, dict)}
        self._places: dict[tuple[str, str], list[int]] = {}
        for i, sub in self._all.items():
            for key in _names(sub):
                self._places.setdefault(key, []).append(i)

    def referred(self, result: Any) -> list[dict[str, Any]]:
        """Those that a result names; each is named by one id or the other."""
        refs = _list(_dict(result).get("subagent_trajectory_ref"))
        keys = [key for r in refs if isinstance(r, dict) for key in _names(r)]
        wanted = sorted({i for key in keys for i in self._places.pop(key, ())})
        return [self._all.pop(i) for i in wanted if i in self._all]

    def left(self) -> list[dict[str, Any]]:
        """Those that no result named."""
        return list(self._all.values())


def _names(data: dict[str, Any]) -> list[tuple[str, str]]:
    return [(k, data[k]) for k in ("trajectory_id", "session_id") if isinstance(data.get(k), str)]


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@SOURCES.register("atif", order=20)
class Atif(SourceFormat):
    """ATIF v1 trajectories, as Harbor writes them: a document a run."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_atif)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        schema = str(head.record.get("schema_version", ""))
        return schema.startswith("ATIF-v") or head.shows(rb'"schema_version"\s*:\s*"ATIF-v')
