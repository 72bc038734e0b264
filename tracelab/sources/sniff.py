"""Which agent log format a file holds, from how it starts; None for everything else.

A guess by the keys that only one format has; at most a megabyte is looked at.
"""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from pathlib import Path
from typing import Any

from tracelab.sources.lines import open_bytes

_LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
_ZIP = b"PK\x03\x04"
_TRIES = 5
_HEAD = 1 << 20
_WHO_AND_WHEN = ("mistake_step", "mistake_agent", "question_ID")
# For documents that are larger than what was read of them.
_PATTERNS = (
    ("otel", rb'"resource_?[sS]pans"\s*:\s*\['),
    ("atif", rb'"schema_version"\s*:\s*"ATIF-v'),
    ("who-and-when", rb'"(mistake_step|mistake_agent|question_ID)"\s*:'),
    ("who-and-when", rb'\A\{\s*"history"\s*:\s*\['),
    ("inspect", rb'"eval"\s*:\s*\{.*"plan"\s*:\s*\{'),
    ("openai-chat", rb'"(tool_calls|function_call)"\s*:\s*[\[{]|"role"\s*:\s*"(tool|function)"'),
)


def agent_format(path: Path) -> str | None:
    """Name the format of a file.

    Raises:
        ImportFormatError: It cannot be opened.
    """
    name = path.name.lower()
    start = _head(path)
    if start.startswith(_ZIP):
        return "inspect" if name.endswith(".eval") else None
    if not start.startswith((b"{", b"[")):
        return None
    by_line = name.endswith(_LINES)
    known = _parsed(start.split(b"\n", _TRIES)[:_TRIES] if by_line else [start])
    if known is None and not by_line:
        known = _parsed(start.split(b"\n", 1)[:1])  # JSON lines under another name
        by_line = known is not None
    if known is not None:
        return _by_keys(known[0], by_line)
    if len(start) < _HEAD:
        return None  # it is whole, and broken: the reader of plain JSONL says how
    return next((f for f, pattern in _PATTERNS if re.search(pattern, start, re.DOTALL)), None)


def damaged(path: Path) -> str | None:
    """Why a `.json` file holds no JSON at all: empty, or cut off. None for every other file.

    A folder of logs may hold other JSON, which is nobody's loss; a log that was cut off is.
    """
    start = _head(path)
    if not start:
        return f"{path.name} is empty."
    whole = len(start) < _HEAD and start.startswith((b"{", b"["))
    lines = start.split(b"\n", 1)[:1]
    if whole and _parsed([start]) is None and _parsed(lines) is None:
        return f"{path.name} is not valid JSON; it may have been cut off."
    return None


def _head(path: Path) -> bytes:
    start = b""
    with contextlib.suppress(EOFError, OSError, zlib.error), open_bytes(path) as file:
        # read1: what comes before the place where a gzip stream breaks can be used.
        while len(start) < _HEAD and (more := file.read1(_HEAD)):
            start += more
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()


def _parsed(pieces: list[bytes]) -> tuple[Any] | None:
    for piece in pieces:
        try:
            return (json.loads(piece.decode("utf-8", "replace")),)
        except (ValueError, RecursionError):
            continue
    return None


def _by_keys(data: Any, by_line: bool) -> str | None:
    if isinstance(data, list):
        is_span = bool(data) and isinstance(data[0], dict) and _is_span(data[0])
        return "otel" if is_span else None
    if not isinstance(data, dict):
        return None
    if "resourceSpans" in data or "resource_spans" in data or _is_span(data):
        return "otel"
    if str(data.get("schema_version", "")).startswith("ATIF-v"):
        return "atif"
    if isinstance(data.get("history"), list) and any(k in data for k in _WHO_AND_WHEN):
        return "who-and-when"
    if isinstance(data.get("eval"), dict) and ("samples" in data or "plan" in data):
        return "inspect"
    messages = data.get("messages")
    if isinstance(messages, list) and (not by_line or data.get("tools") or _has_tools(messages)):
        return "openai-chat"
    return None


def _is_span(data: dict[str, Any]) -> bool:
    context = data.get("context")
    places = [data, context] if isinstance(context, dict) else [data]
    ids = {k for place in places for k in place}
    return bool(ids & {"traceId", "trace_id"}) and bool(ids & {"spanId", "span_id"})


def _has_tools(messages: list[Any]) -> bool:
    return any(
        isinstance(m, dict)
        and (m.get("tool_calls") or m.get("function_call") or m.get("role") in ("tool", "function"))
        for m in messages
    )
