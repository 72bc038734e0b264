"""Contexts: `{"context": …, "query": …}` or `{"messages": […]}`, a line, an entry, or a file.

`context` is a string or a list of documents (strings, or `{"title", "text"}`); `messages` may hold
tool calls and tool results. `response` is what is explained; without one, and without a last
message by the assistant, the model writes it first. `target` is described in
`tracelab.studies.cite.targets`, `sources` are character ranges of a context string, `roles`
labels of ranges (or of messages). Every line becomes a trace or a reject that names the line and,
where one is at fault, the field; what the trace knows of its context is described in
`tracelab.studies.cite.context`. Rows of RAGAS, HotpotQA, SQuAD and LangChain are understood
(`tracelab.sources.passages`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError, PlanError
from tracelab.core.messages import as_turn
from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources.base import Seen, SourceFormat, refused
from tracelab.sources.files.columns import renamed
from tracelab.sources.files.guess import foreign
from tracelab.sources.files.lines import first_bytes
from tracelab.sources.files.records import record_lines
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.jsonl import parse_object
from tracelab.sources.passages import is_document, is_passages, rows_of, understood
from tracelab.sources.registry import GENERIC, SOURCES
from tracelab.studies.cite.cut import TEMPLATE, Document, around, joined
from tracelab.studies.cite.targets import parse_targets

_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_KEYS = {"role", "content"}
_OWN = {"context", "messages", "response", "reference", "sources", "roles", "id"}
"""Keys that become something else; what else a record has stays in `extra`."""


def read_contexts(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield a trace or a reject for each line of a file that is not blank.

    Args:
        path: A file, plain or gzip.
        seen: What the import has read so far.

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
    seen = Seen() if seen is None else seen
    chats = "messages" in Head.of(path).record
    for line in record_lines(path, inside=rows_of):
        yield from _line(line.data, line.problem, path, line.number, seen, chats)


def _line(
    data: bytes, problem: str | None, path: Path, number: int, seen: Seen, chats: bool = True
) -> Iterator[Trace | Reject]:
    """One line as a trace (or several, where it is of another format), or why not.

    Where the file begins with a chat, which may be of other formats too, all its `chats` are ours.
    """
    try:
        if problem:
            raise PlanError(problem)
        value, why = parse_object(data)
        if value is None:
            raise PlanError(why or "")
        others = None
        if "context" not in value and not (chats and "messages" in value):
            others = foreign(value, "contexts", path, number, seen)
        if others is not None:
            yield from others
            return
        [trace] = _one(renamed(value, seen.columns, "contexts"), path, number)
        if duplicate := seen.duplicate_of(trace, str(path), number, None):
            raise PlanError(f"{duplicate.rstrip('.')}; put several targets into one record")
        yield trace
    except Exception as e:
        yield refused(e, str(path), number, data)


def _one(value: Any, path: Path, number: int) -> Iterator[Trace]:
    yield trace_of(value, name=f"{path.name}:{number}", source=str(path), line=number)


def trace_of(
    value: Mapping[str, Any], *, name: str = "-", source: str = "-", line: int = 0
) -> Trace:
    """A parsed JSON object as a trace.

    Raises:
        PlanError: One sentence that names the field at fault.
    """
    value = understood(value)
    both = [k for k in ("context", "messages") if value.get(k) is not None]
    if len(both) != 1:
        raise PlanError(
            "the record has both `context` and `messages`; keep one" if both else
            "the record has neither `context` nor `messages`"
        )  # fmt: skip
    parse_targets(value.get("target"))
    response = _text(value, "response")
    extra = {k: v for k, v in value.items() if k not in _OWN and v is not None}
    if both == ["messages"]:
        turns = _messages(value["messages"])
        if turns and turns[-1].role == "assistant":
            last = turns.pop()
            if response is not None and response != last.text:
                raise PlanError("`messages` already ends with another response than `response`")
            said = [last if last.fields.get("tool_calls") else Turn("assistant", last.text)]
        else:
            said = [] if response is None else [Turn("assistant", response)]
        if not turns:
            raise PlanError("`messages` holds no prompt")
        roles = value.get("roles") or {}
        if not isinstance(roles, dict):
            raise PlanError("`roles` must be an object of message numbers and labels")
        extra |= {"roles": roles} if roles else {}
    else:
        turns, more = _documents_turn(value)
        extra |= more
        said = [] if response is None else [Turn("assistant", response)]
    if said and not said[0].text.strip() and not said[0].fields:
        raise PlanError("`response` is empty")
    return Trace(
        turns=(*turns, *said),
        name=str(value.get("id") or name),
        reference=_text(value, "reference"),
        source=source,
        extra=extra,
        line=line,
    )


def _documents_turn(value: Mapping[str, Any]) -> tuple[list[Turn], dict[str, Any]]:
    """Documents and query as one message, and where the documents stand in it."""
    query, template = _text(value, "query") or "", _text(value, "template")
    text, places = joined(_documents(value["context"]))
    ranges = _ranges(value, "sources") if value.get("sources") is not None else None
    if bad := next((r for r in ranges or () if not 0 <= r[0] < r[1] <= len(text)), None):
        raise PlanError(f"source {bad[0]} to {bad[1]} is not within the context's {len(text)}")
    before, after = around(template or TEMPLATE, query, "`template`")
    at = len(before)
    extra: dict[str, Any] = {
        "query": query,
        "documents": [[0, at + a, at + b, title] for a, b, title in places],
    }
    if ranges is not None:
        extra["sources"] = [[0, at + a, at + b] for a, b, _ in ranges]
    if roles := _ranges(value, "roles", labelled=True):
        extra["roles"] = [[0, at + a, at + b, role] for a, b, role in roles]
    return [Turn("user", before + text + after)], extra


def _text(value: Mapping[str, Any], key: str) -> str | None:
    found = value.get(key)
    if found is not None and not isinstance(found, str):
        raise PlanError(f"`{key}` must be a string")
    return found


def _documents(value: object) -> list[Document]:
    from tracelab.studies.cite.cut import Document

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


def _messages(value: object) -> list[Turn]:
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
        found.append(as_turn({"role": m["role"], "content": content, **rest}))
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


def read_one(text: str) -> Trace:
    """One example, as `tracelab cite -` takes it: the first record of some JSON text.

    Raises:
        ImportFormatError: It is not a record that can be studied.
    """
    line = text.strip()
    if not line:
        raise ImportFormatError("empty; expected a JSON object with `context` and `query`")
    try:
        decode(line)
    except OutsideError as e:
        if e.reason.startswith("Not valid JSON"):  # else refused below, with its reason
            line = next((part for part in line.splitlines() if part.strip()), "")
    [found] = _line(line.encode("utf-8", "surrogatepass"), None, Path("-"), 1, Seen())
    if isinstance(found, Reject):
        raise ImportFormatError(found.reason)
    return found


@SOURCES.register("contexts", order=GENERIC - 5)
class Contexts(SourceFormat):
    """Contexts: documents or messages, a question, and the response to explain."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_contexts)
    one = staticmethod(_one)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`; a record of messages alone is plain JSONL too."""
        record = head.record
        if record.get("target") is not None and "messages" in record:
            return True
        return is_passages(record) or is_document(record)
