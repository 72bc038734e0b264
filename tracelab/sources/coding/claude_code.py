"""Sessions of Claude Code: one row a content block, a run a session.

Rows of one model message (`message.id`) are one step. Rows of a sidechain are steps of a subagent.
Rewound branches of a session are kept in the order of the file and counted in the notes: the log
does not say which of them the user took for the result. Rows that are no part of the conversation
(summaries, snapshots of files, queue operations, hooks) are counted.
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
from tracelab.sources.agents.dialects import Plain, messages
from tracelab.sources.agents.openai_chat import plain_steps
from tracelab.sources.base import EXCERPT_CHARS, BadRecordError, Seen, SourceFormat, refused
from tracelab.sources.files.sniff import LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "claude-code"
_SAID = ("user", "assistant", "system")


def read_sessions(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each session of a file, and a reject for each unusable row."""
    seen = Seen() if seen is None else seen
    sessions: dict[str, _Session] = {}
    for number, row in rows_of(path):
        if isinstance(row, Reject):
            yield row
            continue
        name = text_or_none(row.get("sessionId")) or path.stem
        try:
            sessions.setdefault(name, _Session(name, number)).add(row, number)
        except Exception as e:
            yield refused(e, str(path), number, json.dumps(row)[:EXCERPT_CHARS])
    for session in sessions.values():
        if session.rows:
            yield session.trace(path, seen)


class _Session:
    def __init__(self, name: str, line: int) -> None:
        self.name, self.line = name, line
        self.rows: list[Plain] = []
        self.dropped: Counter[str] = Counter()
        self.title: str | None = None
        self.meta: dict[str, Any] = {}
        self.model: str | None = None
        self._last: str | None = None
        self._parents: Counter[str] = Counter()

    def add(self, row: dict[str, Any], number: int) -> None:
        kind = row.get("type")
        for key in ("cwd", "gitBranch", "version"):
            if isinstance(row.get(key), str):
                self.meta.setdefault(key, row[key])
        if kind == "summary":
            self.title = text_or_none(row.get("summary"))
        if kind not in _SAID:
            self.dropped[f"rows of type {kind}"] += 1
            return
        if isinstance(parent := row.get("parentUuid"), str) and kind == "user":
            self._parents[parent] += 1
        message = row.get("message", row)
        if not isinstance(message, dict):
            raise BadRecordError("`message` is not an object.", "message")
        plain = messages([{"role": kind, **message}], self.dropped)
        agent = None
        if row.get("isSidechain") is True:
            agent = f"subagent {row['agentId']}" if row.get("agentId") else "subagent"
        for p in plain:
            p["place"] = f"line {number}"
            if agent and p["role"] != "tool":
                p["name"] = agent if p["role"] == "assistant" else f"{agent} {p['role']}"
            if row.get("isApiErrorMessage") is True:
                p["is_error"] = True
        identity = text_or_none(message.get("id"))
        if kind == "assistant":
            self.model = self.model or _real(text_or_none(message.get("model")))
            if identity is not None and identity == self._last and self.rows:
                _join(self.rows[-1], plain[0])
                self.rows += plain[1:]
                return
        self._last = identity if kind == "assistant" else None
        self.rows += plain

    def trace(self, path: Path, seen: Seen) -> Trace | Reject:
        forks = sum(n - 1 for n in self._parents.values() if n > 1)
        episode = episode_of(
            plain_steps(self.rows), path, self.line, format=FORMAT, name=self.name,
            model=self.model, version=text_or_none(self.meta.get("version")),
            meta={**self.meta, **({"title": self.title} if self.title else {}),
                  **({"forks": forks} if forks else {})},
            dropped=self.dropped,
        )  # fmt: skip
        return finish(episode, seen, f"session {self.name}")


def _real(model: str | None) -> str | None:
    return None if model is None or model.startswith("<") else model


def _join(before: Plain, more: Plain) -> None:
    """Add a block of the same message: text, thinking, and calls."""
    parts = before.get("content")
    parts = parts if isinstance(parts, list) else [parts] if parts else []
    added = more.get("content")
    before["content"] = [*parts, *(added if isinstance(added, list) else [added] if added else [])]
    if calls := more.get("tool_calls"):
        before["tool_calls"] = [*before.get("tool_calls", ()), *calls]
    if thought := more.get("reasoning_content"):
        held = before.get("reasoning_content")
        before["reasoning_content"] = f"{held}\n{thought}" if held else thought
    if more.get("usage"):
        before["usage"] = more["usage"]


@SOURCES.register(FORMAT, order=30)
class ClaudeCode(SourceFormat):
    """Sessions of Claude Code, a run a session, subagents included."""

    suffixes = LINES
    read = staticmethod(read_sessions)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        rows = b'"sessionId"' in head.start and b'"parentUuid"' in head.start
        return rows and head.start.startswith(b"{")
