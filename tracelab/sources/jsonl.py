"""Plain JSONL: one `{id?, prompt | messages, response, answer?, reference?, model?, …}` a line.

`messages` is a list of `{role, content}`; when its last one is the assistant's and there is no
`response`, that one is the response. What else a record holds is kept in `extra`. Every line
becomes a trace or a reject that names the line and, where one is at fault, the field.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr
from pydantic import ValidationError as PydanticError

from tracelab.core.messages import REASONING_KEYS, reasoning_of, text_of
from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Role, Trace, Turn
from tracelab.sources.agents.openai_chat import chat_trace, has_tools
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, refused
from tracelab.sources.files.columns import renamed
from tracelab.sources.files.guess import foreign
from tracelab.sources.files.lines import MAX_LINE_BYTES, FileLine
from tracelab.sources.files.records import record_lines
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import GENERIC, SOURCES
from tracelab.sources.rows import QUESTION, REFERENCE, spelled

_OWN = ("reference", "answer", "final_answer")
"""Of the names for a right answer, those that mean the response's own here."""
_RIGHT = frozenset(REFERENCE) - frozenset(_OWN)
Scalar = StrictStr | StrictInt | StrictFloat
_NAME_CHARS = 60
_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}


class Part(BaseModel):
    """One part of a message's content; only text can be resampled."""

    type: Literal["text"]
    text: StrictStr


class Message(BaseModel):
    """One message; keys it does not name are kept in the trace's `extra`."""

    model_config = ConfigDict(extra="allow")

    role: Role
    content: StrictStr | Annotated[list[Part], Field(fail_fast=True)]
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
    system: StrictStr | None = None
    # The first error is what a reject says: a line can hold millions.
    messages: Annotated[list[Message], Field(fail_fast=True)] | None = None
    response: StrictStr | None = None
    answer: Scalar | None = None
    reference: Scalar | None = None
    model: StrictStr | None = None
    success: StrictBool | None = None
    rendering: Literal["chat", "raw"] = "chat"


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
    for line in record_lines(path, limit):
        try:
            value = _value(line)
            if seen.columns:
                value = renamed(value, seen.columns, "jsonl")
            if not value.keys() <= _FIELDS or "messages" in value:  # else it is surely ours
                if (others := foreign(value, "jsonl", path, line.number, seen)) is not None:
                    yield from others
                    continue
                if has_tools(value):
                    yield chat_trace(value, path, line.number, seen, line.data)
                    continue
            trace, record_id = _trace(value, line.number, path)
            if duplicate := seen.duplicate_of(trace, file, line.number, record_id):
                raise BadRecordError(duplicate)
            yield trace
        except Exception as e:
            yield refused(e, file, line.number, line.data)


def _one(value: Any, path: Path, number: int) -> Iterator[Trace]:
    yield _trace(value, number, path)[0]


def read_questions(
    path: Path, seen: Seen | None = None, limit: int = MAX_LINE_BYTES
) -> Iterator[Trace | Reject]:
    """Yield a prompt without a response, or a reject, for each line.

    A line is `{id?, prompt | messages, reference?}`. One question may be asked twice under two ids.

    Args:
        path: A file, plain or gzip.
        seen: What the user said columns are called; ids are unique in a file only.
        limit: Longest line, bytes.
    """
    names: dict[str, int] = {}
    for line in record_lines(path, limit):
        try:
            named = {} if seen is None else seen.columns
            record = _record(renamed(_value(line), named, "questions"))
            turns, extra = _turns(record, asking=True)
            name = str(record.id) if record.id not in (None, "") else f"{path.name}:{line.number}"
            if name in names:
                raise BadRecordError(f"Duplicate of line {names[name]}: the same id {name!r}.")
            names[name] = line.number
        except Exception as e:
            yield refused(e, str(path), line.number, line.data)
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


def _value(line: FileLine) -> dict[str, Any]:
    if line.problem:
        raise BadRecordError(line.problem)
    return _parse(line.data)


def _record(value: dict[str, Any]) -> JsonlRecord:
    try:
        return JsonlRecord.model_validate(_understood(value))
    except PydanticError as e:
        raise _explain(e) from None


def _understood(data: dict[str, Any]) -> dict[str, Any]:
    """A record in the names of this format, from those that data sets and servers use.

    Reasoning in a field of its own goes into the response, as the model wrote it.
    """
    out = dict(data)
    if out.get("reference") is None and not _RIGHT.isdisjoint(out):
        named = (k for k in REFERENCE if k in _RIGHT and isinstance(out.get(k), str | int | float))
        if (key := next(named, None)) is not None and not isinstance(out[key], bool):
            out["reference"] = out.pop(key)
    if isinstance(out.get("response"), str) and (thought := reasoning_of(out)):
        out["response"] = spelled(thought, out["response"])
        out = {k: v for k, v in out.items() if k not in REASONING_KEYS}
    told = out.get("messages")
    last = told[-1] if isinstance(told, list) and told else None
    if isinstance(last, dict) and last.get("role") == "assistant":
        if told and (thought := reasoning_of(last)):
            text = text_of(last.get("content"))[0]
            rest = {k: v for k, v in last.items() if k not in REASONING_KEYS}
            out["messages"] = [*told[:-1], {**rest, "content": spelled(thought, text)}]
    return out


def _trace(value: dict[str, Any], number: int, path: Path) -> tuple[Trace, str | None]:
    record = _record(value)
    turns, extra = _turns(record)
    rest = {**(record.model_extra or {}), **extra}
    record_id = None if record.id is None or record.id == "" else str(record.id)
    trace = Trace(
        turns=turns,
        name=record_id or f"{path.name}:{number}",
        model=record.model,
        answer=_text(record.answer),
        reference=_text(record.reference),
        success=record.success,
        rendering=record.rendering,
        source=str(path),
        extra=rest,
        line=number,
    )
    return trace, record_id


def _text(value: str | int | float | None) -> str | None:
    """Return an answer as text; a blank one is none."""
    if value is None:
        return None
    text = str(value)
    return text if text.strip() else None


def _parse(data: bytes) -> dict[str, Any]:
    value = decode(data, depth=INNER_DEPTH)
    if not isinstance(value, dict):
        raise BadRecordError(f"The line is {_kind(value)}, not a JSON object.")
    return value


def parse_object(data: bytes) -> tuple[dict[str, Any] | None, str | None]:
    """A line as a JSON object, or None and why it is none."""
    try:
        return _parse(data), None
    except (BadRecordError, OutsideError) as e:
        return None, e.reason


def _unasked(record: JsonlRecord) -> str:
    """Why a record that says no question cannot be used, and how to say which column is one."""
    said = "The record has neither `prompt` nor `messages`"
    texts = [k for k, v in (record.model_extra or {}).items() if isinstance(v, str) and v.strip()]
    if not texts:
        return f"{said}."
    column = next((k for k in texts if k.lower() in QUESTION), texts[0])
    told = f"--column question={column[:_NAME_CHARS]}"
    if record.response is None and record.answer is not None:
        told += ", and --column response=answer if a model wrote that"
    return f"{said}. Name the column that asks: {told} (`columns` in a config)."


def _turns(record: JsonlRecord, *, asking: bool = False) -> tuple[tuple[Turn, ...], dict[str, Any]]:
    """Return the turns, response last unless `asking`, and what the messages said beyond them."""
    extra: dict[str, Any] = {}
    if record.prompt is not None and record.messages is not None:
        raise BadRecordError("The record has both `prompt` and `messages`; keep one.", "messages")
    if record.messages is None:
        if record.prompt is None:
            raise BadRecordError(_unasked(record), "prompt")
        if not record.prompt.strip():
            raise BadRecordError("`prompt` is empty.", "prompt")
        before = [Turn("user", record.prompt)]
        response = record.response
    else:
        before = [m.turn() for m in record.messages]
        response = record.response
        for i, message in enumerate(record.messages):
            if fields := {k: v for k, v in (message.model_extra or {}).items() if v}:
                extra.setdefault("message_fields", {})[str(i)] = fields
        if before and before[-1].role == "assistant":
            last = before.pop().text
            if response is not None and response != last:
                reason = "`messages` already ends with another response than `response`."
                raise BadRecordError(reason, "response")
            response = last
        if not before:
            raise BadRecordError("`messages` holds no prompt.", "messages")
        if not any(t.text.strip() for t in before):
            raise BadRecordError("The prompt in `messages` is empty.", "messages")
    if record.system and before[0].role != "system":
        before = [Turn("system", record.system), *before]
    if response is None and asking:
        return tuple(before), extra
    if response is None:
        raise BadRecordError(
            "`response` is missing (for questions that the model is to answer first, set "
            "source_options.format to questions).",
            "response",
        )
    if asking:
        raise BadRecordError("A question has no response.", "response")
    if not response.strip():
        raise BadRecordError("`response` is empty.", "response")
    return (*before, Turn("assistant", response)), extra


def _explain(error: PydanticError) -> BadRecordError:
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
        return BadRecordError(f"`{field}` is missing.", field)
    name = str(path[-1]) if path else field
    wanted = _WANTED.get(name, "an object" if isinstance(path[-1], int) else "valid")
    shown = f"`{node[:40]}`" if isinstance(node, str) else _kind(node)
    return BadRecordError(f"`{field}` must be {wanted}, not {shown}.", field)


_FIELDS = {*JsonlRecord.model_fields, *Message.model_fields, *Part.model_fields}
_WANTED = {
    "id": "a string or an integer",
    "prompt": "a string",
    "system": "a string",
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

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_jsonl)
    one = staticmethod(_one)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        if head.name.endswith(DOCUMENTS):  # which may be anything
            return bool({"prompt", "messages", "response"} & set(head.record))
        return head.name.endswith(LINES) or head.start.startswith(b"{")


@SOURCES.register("questions", order=GENERIC + 20)
class OpenQuestions(SourceFormat):
    """JSONL of questions without responses, which the model is to answer first."""

    suffixes = LINES
    read = staticmethod(read_questions)
