"""Rollouts of Codex, a run a file: rows of `session_meta`, `turn_context`, `response_item`, events.

Only `response_item` rows are the conversation; events repeat it for the screen, and are counted,
but for what the model was charged. Older files hold the items bare. `codex exec --json` writes
`item.completed` events of another shape, which are read too.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import finish
from tracelab.sources.agents.build import episode_of, rows_of
from tracelab.sources.agents.dialects import items
from tracelab.sources.agents.openai_chat import plain_steps
from tracelab.sources.base import Seen, SourceFormat, refused
from tracelab.sources.files.sniff import LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "codex"
_ITEMS = ("message", "reasoning")


def read_rollout(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of the file, and a reject for each row that is no JSON object."""
    dropped: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    meta: dict[str, Any] = {}
    model: str | None = None
    places: list[str] = []
    for number, row in rows_of(path):
        if isinstance(row, Reject):
            yield row
            continue
        kind, held = row.get("type"), row.get("payload")
        payload = held if isinstance(held, dict) else row
        if kind == "response_item" or (held is None and _is_item(kind)):
            found.append(payload)
        elif kind in ("item.completed", "thread.started"):
            item = row.get("item")
            found += _executed(item, dropped) if isinstance(item, dict) else ()
            meta.setdefault("id", row.get("thread_id"))
        elif kind == "session_meta" or (kind is None and "id" in row and "timestamp" in row):
            meta = {**payload, **{k: v for k, v in meta.items() if v is not None}}
        elif kind == "turn_context":
            model = model or text_or_none(payload.get("model"))
        else:
            inner = payload.get("type") if kind == "event_msg" else None
            dropped[f"{kind} rows" + (f" ({inner})" if inner else "")] += 1
        places += [f"line {number}"] * (len(found) - len(places))
    try:
        steps = plain_steps(items(found, dropped, places=places))
    except Exception as e:
        yield refused(e, str(path))
        return
    told = {k: v for k, v in meta.items() if k in ("cwd", "originator", "git", "instructions")}
    episode = episode_of(
        steps, path, 0, format=FORMAT, name=text_or_none(meta.get("id")), model=model,
        version=text_or_none(meta.get("cli_version")), task=_task(steps.steps),
        meta={k: v for k, v in told.items() if v}, dropped=dropped,
    )  # fmt: skip
    yield finish(episode, Seen() if seen is None else seen, path.name)


def _is_item(kind: Any) -> bool:
    return isinstance(kind, str) and (kind in _ITEMS or kind.endswith(("_call", "_call_output")))


def _task(steps: list[Any]) -> str | None:
    """What the user asked: not the wrapped context that Codex puts before it."""
    asked = [s.content for s in steps if s.kind == "user" and s.content]
    return next((t for t in asked if not t.lstrip().startswith("<")), None)


def _executed(item: dict[str, Any], dropped: Counter[str]) -> list[dict[str, Any]]:
    """An item of `codex exec --json` as Responses items."""
    kind, identity = item.get("type", item.get("item_type")), item.get("id")
    if kind in ("agent_message", "assistant_message"):
        return [{"type": "message", "role": "assistant", "content": item.get("text")}]
    if kind == "reasoning":
        return [{"type": "reasoning", "summary": [{"text": str(item.get("text") or "")}]}]
    if kind == "command_execution":
        return [
            {"type": "function_call", "call_id": identity, "name": "shell",
             "arguments": {"command": item.get("command")}},
            {"type": "function_call_output", "call_id": identity,
             "output": item.get("aggregated_output"),
             **({"status": "failed"} if item.get("exit_code") not in (0, None) else {})},
        ]  # fmt: skip
    if kind in ("mcp_tool_call", "file_change", "web_search"):
        known = ("id", "type", "item_type", "status", "result", "output", "tool")
        result = next((item[k] for k in ("result", "output") if item.get(k) is not None), None)
        said = [{"type": "function_call", "call_id": identity,
                 "name": item.get("tool", kind),
                 "arguments": {k: v for k, v in item.items() if k not in known}}]  # fmt: skip
        if result is not None:
            said.append({"type": "function_call_output", "call_id": identity, "output":
                         result if isinstance(result, str) else json.dumps(result)})  # fmt: skip
        return said
    dropped[f"items of type {kind}"] += 1
    return []


@SOURCES.register(FORMAT, order=30)
class Codex(SourceFormat):
    """Rollouts of Codex (`rollout-*.jsonl`, `codex exec --json`), a run a file."""

    suffixes = LINES
    read = staticmethod(read_rollout)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        kind = head.record.get("type")
        rolled = kind in ("session_meta", "response_item", "turn_context") and isinstance(
            head.record.get("payload"), dict
        )
        return rolled or kind in ("thread.started", "item.completed")
