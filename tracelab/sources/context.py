"""JSONL of contexts: `{"context": …, "query": …}` or `{"messages": […]}` a line.

`context` is a string or a list of documents (strings, or `{"title", "text"}`); `messages` may hold
tool calls and tool results. `response` is what is explained; without one, and without a last
message by the assistant, the model writes it first. `target` is described in
`tracelab.studies.cite.targets`, `sources` are character ranges of a context string, `roles`
labels of ranges (or of messages). Every line becomes a record or a reject that names the line
and, where one is at fault, the field.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError, PlanError
from tracelab.core.seam import Reject
from tracelab.sources.base import excerpt
from tracelab.sources.jsonl import parse_object
from tracelab.sources.lines import MAX_LINE_BYTES, first_bytes, read_lines
from tracelab.studies.cite.context import Context, Message
from tracelab.studies.cite.parts import TEMPLATE, Cut, Document, from_documents, from_messages
from tracelab.studies.cite.targets import Spec, parse_targets

_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_KEYS = {"role", "content"}


@dataclass(frozen=True, slots=True)
class ContextRecord:
    """A context to study.

    Attributes:
        context: Its messages and sources.
        targets: What is to be explained.
        name: How the user calls it: the record's `id`, or `file.jsonl:3`.
        response: The text to explain; None when the model is to write it.
        acts: The assistant's last message, where it is what is explained and calls tools.
        source: The file, as it was named.
        line: Its line, from 1; 0 when it stands on none.
        reference: The correct answer, if known.
        extra: Anything else, JSON values only.
    """

    context: Context
    targets: tuple[Spec, ...]
    name: str
    response: str | None = None
    acts: Message | None = None
    source: str = ""
    line: int = 0
    reference: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


def read_contexts(
    path: Path, cut: Cut, *, template: str = TEMPLATE
) -> Iterator[ContextRecord | Reject]:
    """Yield a record or a reject for each line of a file that is not blank.

    Raises:
        ImportFormatError: The file cannot be read, or is empty.
    """
    if path.is_dir():
        raise ImportFormatError(f"{path} is a folder; contexts are read from a JSONL file.")
    if not path.exists():
        raise ImportFormatError(f"{path}: no such file or folder.")
    start = first_bytes(path)
    if not start:
        raise ImportFormatError(f"{path} is empty.")
    if start.startswith(b"["):
        raise ImportFormatError(f"{path} holds a JSON array; write one record a line (JSONL).")
    for line in read_lines(path, MAX_LINE_BYTES):
        yield parse_line(line.data, line.problem, path, line.number, cut, template)


def parse_line(
    data: bytes, problem: str | None, path: Path, number: int, cut: Cut, template: str
) -> ContextRecord | Reject:
    """One line as a record, or why not."""
    try:
        if problem:
            raise PlanError(problem)
        value, why = parse_object(data)
        if value is None:
            raise PlanError(why or "")
        return record_of(
            value, cut, template=template, name=f"{path.name}:{number}", source=str(path),
            line=number,
        )  # fmt: skip
    except PlanError as e:
        return Reject(str(path), number, str(e), excerpt(data))


def record_of(
    value: Mapping[str, Any],
    cut: Cut,
    *,
    template: str = TEMPLATE,
    name: str = "-",
    source: str = "-",
    line: int = 0,
) -> ContextRecord:
    """A parsed JSON object as a record.

    Raises:
        PlanError: One sentence that names the field at fault.
    """
    both = [k for k in ("context", "messages") if value.get(k) is not None]
    if len(both) != 1:
        raise PlanError(
            "the record has both `context` and `messages`; keep one" if both else
            "the record has neither `context` nor `messages`"
        )  # fmt: skip
    response = _text(value, "response")
    acts = None
    if both == ["messages"]:
        messages = _messages(value["messages"])
        if messages and messages[-1].role == "assistant":
            last = messages.pop()
            if response is not None and response != last.content:
                raise PlanError("`messages` already ends with another response than `response`")
            acts, response = (last, None) if last.calls else (None, last.content)
        if not messages:
            raise PlanError("`messages` holds no prompt")
        roles = value.get("roles") or {}
        if not isinstance(roles, dict):
            raise PlanError("`roles` must be an object of message numbers and labels")
        labels = {int(k): str(v) for k, v in roles.items() if str(k).isdigit()}
        context = from_messages(messages, cut, roles=labels)
    else:
        query = _text(value, "query") or ""
        own = _text(value, "template")
        context = from_documents(
            _documents(value["context"]), query, cut, template=own or template,
            roles=[(a, b, r) for a, b, r in _ranges(value, "roles", labelled=True)],
            ranges=[(a, b) for a, b, _ in _ranges(value, "sources")]
            if value.get("sources") is not None else None,
        )  # fmt: skip
    if response is not None and not response.strip():
        raise PlanError("`response` is empty")
    known = {"context", "messages", "query", "response", "target", "sources", "roles", "id"}
    return ContextRecord(
        context=context,
        targets=parse_targets(value.get("target")),
        name=str(value.get("id") or name),
        response=response,
        acts=acts,
        source=source,
        line=line,
        reference=_text(value, "reference"),
        extra={k: v for k, v in value.items() if k not in known | {"template", "reference"}},
    )


def _text(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise PlanError(f"`{key}` must be a string")
    return found


def _documents(value: object) -> list[Document]:
    if isinstance(value, str):
        return [Document(value)]
    if not isinstance(value, list):
        raise PlanError("`context` must be a string or a list of documents")
    found = []
    for i, d in enumerate(value):
        if isinstance(d, str):
            found.append(Document(d))
        elif isinstance(d, dict) and isinstance(d.get("text"), str):
            title = d.get("title")
            if title is not None and not isinstance(title, str):
                raise PlanError(f"`context[{i}].title` must be a string")
            found.append(Document(d["text"], title))
        else:
            raise PlanError(f"`context[{i}]` must be a string or an object with `text`")
    return found


def _messages(value: object) -> list[Message]:
    if not isinstance(value, list):
        raise PlanError("`messages` must be a list of messages")
    found = []
    for i, m in enumerate(value):
        if not isinstance(m, dict) or m.get("role") not in _ROLES:
            raise PlanError(f"`messages[{i}].role` must be one of {', '.join(_ROLES)}")
        content = m.get("content")
        if isinstance(content, list) and all(
            isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str)
            for p in content
        ):
            content = "".join(p["text"] for p in content)
        if content is None and m.get("tool_calls"):
            content = ""
        if not isinstance(content, str):
            raise PlanError(f"`messages[{i}].content` must be a string or a list of text parts")
        rest = {k: v for k, v in m.items() if k not in _MESSAGE_KEYS and v is not None}
        calls = rest.get("tool_calls", [])
        if not isinstance(calls, list) or not all(isinstance(c, dict) for c in calls):
            raise PlanError(f"`messages[{i}].tool_calls` must be a list of objects")
        found.append(Message(m["role"], content, rest))
    return found


def _ranges(
    value: Mapping[str, Any], key: str, *, labelled: bool = False
) -> list[tuple[int, int, str]]:
    """`[[start, end], …]` or `[[start, end, label], …]`."""
    found = value.get(key)
    if found is None:
        return []
    size = 3 if labelled else 2
    if not isinstance(found, list) or not all(
        isinstance(r, list) and len(r) == size and type(r[0]) is int and type(r[1]) is int
        and all(isinstance(x, str) for x in r[2:])
        for r in found
    ):  # fmt: skip
        shape = "[start, end, label]" if labelled else "[start, end]"
        raise PlanError(f"`{key}` must be a list of {shape}, characters of the context")
    return [(r[0], r[1], r[2] if labelled else "") for r in found]


def read_one(text: str, cut: Cut, *, template: str = TEMPLATE) -> ContextRecord:
    """One example, as `tracelab cite` takes it: the first record of some JSON text.

    Raises:
        ImportFormatError: It is not a record that can be studied.
    """
    line = text.strip()
    if not line:
        raise ImportFormatError("empty; expected a JSON object with `context` and `query`")
    try:
        json.loads(line)
    except ValueError:
        line = next((part for part in line.splitlines() if part.strip()), "")
    except RecursionError:
        pass  # refused below, with its reason
    found = parse_line(line.encode("utf-8", "surrogatepass"), None, Path("-"), 1, cut, template)
    if isinstance(found, Reject):
        raise ImportFormatError(found.reason)
    return found
