"""Plain JSONL: one `{id?, prompt | messages, response, answer?, reference?, model?, …}` a line.

`messages` is a list of `{role, content}`; when its last one is the assistant's and there is no
`response`, that one is the response. What else a record holds is kept in `extra`. Every line
becomes a trace or a reject that names the line and, where one is at fault, the field.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as PydanticError

from tracelab.core.seam import Reject
from tracelab.core.trace import Role, Trace, Turn
from tracelab.sources.base import Seen, SourceFormat, excerpt
from tracelab.sources.lines import MAX_LINE_BYTES, FileLine, read_lines
from tracelab.sources.registry import GENERIC, SOURCES
from tracelab.sources.sniff import LINES, Head

MAX_DEPTH = 64
"""Deepest nesting of a record: deeper ones would break whoever writes them out again."""

Scalar = StrictStr | StrictInt | StrictFloat
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}


class Part(BaseModel):
    """One part of a message's content; only text can be resampled."""

    type: Literal["text"]
    text: StrictStr


class Message(BaseModel):
    """One message; keys it does not name are kept in the trace's `extra`."""

    model_config = ConfigDict(extra="allow")

    role: Role
    content: StrictStr | list[Part]
    name: StrictStr | None = None

    def turn(self) -> Turn:
        """Return it as a turn."""
        content = self.content
        text = content if isinstance(content, str) else "".join(p.text for p in content)
        return Turn(self.role, text, self.name)


class JsonlRecord(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="allow")

    id: StrictStr | StrictInt | None = None
    prompt: StrictStr | None = None
    messages: list[Message] | None = None
    response: StrictStr | None = None
    answer: Scalar | None = None
    reference: Scalar | None = None
    model: StrictStr | None = None
    success: StrictBool | None = None
    rendering: Literal["chat", "raw"] = "chat"


class _BadRecordError(Exception):
    def __init__(self, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.field = field


def read_jsonl(
    path: Path, seen: Seen | None = None, limit: int = MAX_LINE_BYTES
) -> Iterator[Trace | Reject]:
    """Yield a trace or a reject for each line that is not blank.

    Args:
        path: A file, plain or gzip.
        seen: What the import has read so far.
        limit: Longest line, bytes.
    """
    seen = Seen() if seen is None else seen
    file = str(path)
    for line in read_lines(path, limit):
        try:
            trace, record_id = _trace(line, path)
            if duplicate := seen.duplicate_of(trace, file, line.number, record_id):
                raise _BadRecordError(duplicate)
        except _BadRecordError as e:
            yield Reject(file, line.number, e.reason, excerpt(line.data), e.field)
        else:
            yield trace


def read_questions(
    path: Path, seen: Seen | None = None, limit: int = MAX_LINE_BYTES
) -> Iterator[Trace | Reject]:
    """Yield a prompt without a response, or a reject, for each line.

    A line is `{id?, prompt | messages, reference?}`. One question may be asked twice under two ids.

    Args:
        path: A file, plain or gzip.
        seen: Not used: ids are unique in a file only.
        limit: Longest line, bytes.
    """
    names: dict[str, int] = {}
    for line in read_lines(path, limit):
        try:
            record = _record(line)
            turns, extra = _turns(record, asking=True)
            name = str(record.id) if record.id not in (None, "") else f"{path.name}:{line.number}"
            if name in names:
                raise _BadRecordError(f"Duplicate of line {names[name]}: the same id {name!r}.")
            names[name] = line.number
        except _BadRecordError as e:
            yield Reject(str(path), line.number, e.reason, excerpt(line.data), e.field)
            continue
        rest = {**(record.model_extra or {}), **extra}
        yield Trace(
            turns,
            name,
            reference=_text(record.reference),
            rendering=record.rendering,
            source=str(path),
            extra=rest,
            line=line.number,
        )


def _record(line: FileLine) -> JsonlRecord:
    if line.problem:
        raise _BadRecordError(line.problem)
    data = _parse(line.data)
    try:
        return JsonlRecord.model_validate(data)
    except PydanticError as e:
        raise _explain(e) from None


def _trace(line: FileLine, path: Path) -> tuple[Trace, str | None]:
    record = _record(line)
    turns, extra = _turns(record)
    rest = {**(record.model_extra or {}), **extra}
    record_id = None if record.id is None or record.id == "" else str(record.id)
    trace = Trace(
        turns=turns,
        name=record_id or f"{path.name}:{line.number}",
        model=record.model,
        answer=_text(record.answer),
        reference=_text(record.reference),
        success=record.success,
        rendering=record.rendering,
        source=str(path),
        extra=rest,
        line=line.number,
    )
    return trace, record_id


def _text(value: str | int | float | None) -> str | None:
    """Return an answer as text; a blank one is none."""
    if value is None:
        return None
    text = str(value)
    return text if text.strip() else None


def _refuse_constant(name: str) -> NoReturn:
    raise _BadRecordError(f"{name} is not JSON.")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _BadRecordError(f"The number {digits[:40]} is too large.")
    return value


def _parse(data: bytes) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise _BadRecordError(f"Not valid UTF-8 (byte {e.start + 1} of the line).") from None
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as e:
        raise _BadRecordError(f"Not valid JSON: {e.msg} (column {e.colno}).") from None
    except RecursionError:
        raise _BadRecordError(f"The record is nested more than {MAX_DEPTH} levels deep.") from None
    except ValueError:
        raise _BadRecordError("The record holds an integer with too many digits.") from None
    if not isinstance(value, dict):
        raise _BadRecordError(f"The line is {_kind(value)}, not a JSON object.")
    if _deeper_than(value, MAX_DEPTH):
        raise _BadRecordError(f"The record is nested more than {MAX_DEPTH} levels deep.")
    if b"\\u" in data:
        for key, part in value.items():
            _refuse_surrogates(key, part)
    return value


def _refuse_surrogates(key: str, value: object) -> None:
    """Half of a surrogate pair is valid JSON but not a character: no file or database takes it."""
    try:
        json.dumps([key, value], ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        name = key.encode("utf-8", "replace").decode("utf-8")
        raise _BadRecordError(
            f"`{name}` holds a lone surrogate, which is not a character.", name
        ) from None


def parse_object(data: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """A line as a JSON object, or None and why it is none."""
    try:
        return _parse(data), None
    except _BadRecordError as e:
        return None, e.reason


def _deeper_than(value: object, limit: int) -> bool:
    level: list[object] = [value]
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)  # type: ignore[attr-defined]
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _turns(record: JsonlRecord, *, asking: bool = False) -> tuple[tuple[Turn, ...], dict[str, Any]]:
    """Return the turns, response last unless `asking`, and what the messages said beyond them."""
    extra: dict[str, Any] = {}
    if record.prompt is not None and record.messages is not None:
        raise _BadRecordError("The record has both `prompt` and `messages`; keep one.", "messages")
    if record.messages is None:
        if record.prompt is None:
            raise _BadRecordError("The record has neither `prompt` nor `messages`.", "prompt")
        if not record.prompt.strip():
            raise _BadRecordError("`prompt` is empty.", "prompt")
        before = [Turn("user", record.prompt)]
        response = record.response
    else:
        before = [m.turn() for m in record.messages]
        response = record.response
        for i, message in enumerate(record.messages):
            if fields := {k: v for k, v in (message.model_extra or {}).items() if v}:
                if "tool_calls" in fields or "function_call" in fields:
                    where = f"messages[{i}]"
                    raise _BadRecordError(
                        f"`{where}` has tool calls, which plain JSONL cannot hold.", where
                    )
                extra.setdefault("message_fields", {})[str(i)] = fields
        if before and before[-1].role == "assistant":
            last = before.pop().text
            if response is not None and response != last:
                reason = "`messages` already ends with another response than `response`."
                raise _BadRecordError(reason, "response")
            response = last
        if not before:
            raise _BadRecordError("`messages` holds no prompt.", "messages")
        if not any(t.text.strip() for t in before):
            raise _BadRecordError("The prompt in `messages` is empty.", "messages")
    if response is None and asking:
        return tuple(before), extra
    if response is None:
        raise _BadRecordError(
            "`response` is missing (for questions that the model is to answer first, set "
            "source_options.format to questions).",
            "response",
        )
    if asking:
        raise _BadRecordError("A question has no response.", "response")
    if not response.strip():
        raise _BadRecordError("`response` is empty.", "response")
    return (*before, Turn("assistant", response)), extra


def _explain(error: PydanticError) -> _BadRecordError:
    """Turn the first validation error into one sentence that names the field."""
    # Pydantic adds the names of union members to a path; those are not fields.
    errors = [
        ([part for part in e["loc"] if isinstance(part, int) or part in _FIELDS], e)
        for e in error.errors(include_url=False)
    ]
    top = errors[0][0]
    within = [(path, e) for path, e in errors if path[: len(top)] == top]
    path, first = max(within, key=lambda pair: len(pair[0]))  # the first of the most exact
    node: object = first["input"]
    field = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")
    if first["type"] == "missing":
        return _BadRecordError(f"`{field}` is missing.", field)
    name = str(path[-1]) if path else field
    wanted = _WANTED.get(name, "an object" if isinstance(path[-1], int) else "valid")
    shown = f"`{node[:40]}`" if isinstance(node, str) else _kind(node)
    return _BadRecordError(f"`{field}` must be {wanted}, not {shown}.", field)


_FIELDS = {*JsonlRecord.model_fields, *Message.model_fields, *Part.model_fields}
_WANTED = {
    "id": "a string or an integer",
    "prompt": "a string",
    "messages": "a list of messages",
    "response": "a string",
    "answer": "a string or a number",
    "reference": "a string or a number",
    "model": "a string",
    "success": "true or false",
    "rendering": "`chat` or `raw`",
    "role": "`system`, `user`, `assistant` or `tool`",
    "content": "a string or a list of text parts",
    "name": "a string",
    "type": "`text`",
    "text": "a string",
}


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return next((name for kind, name in _KINDS.items() if type(value) is kind), "a number")


@SOURCES.register("jsonl", order=GENERIC + 10)
class Jsonl(SourceFormat):
    """Plain JSONL: a question and its response a line."""

    suffixes = LINES
    read = staticmethod(read_jsonl)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        return head.name.endswith(LINES) or head.start.startswith(b"{")


@SOURCES.register("questions", order=GENERIC + 20)
class OpenQuestions(SourceFormat):
    """JSONL of questions without responses, which the model is to answer first."""

    suffixes = LINES
    read = staticmethod(read_questions)
