"""What a chat template leaves out of the messages it is given, found by rendering them. Pure.

A template is a program of the model's author: it may ignore tool calls, reasoning, or whole roles,
and says nothing. So every part of every message (its text, the reasoning in or beside it, the name
and the arguments of each call) is marked with a word that stands nowhere else, and the words are
looked for in what is rendered. Escapes and blanks of a template therefore do not matter.

Templates of reasoning models drop the reasoning of earlier turns on purpose, and the model that
wrote the log never saw it: reasoning that the template shows where its message is the last one is
not left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from tracelab.core.errors import PlanError
from tracelab.core.outside import OutsideError, decode
from tracelab.text.tags import divided, unopened

Render = Callable[[Sequence[Mapping[str, Any]], bool], str]
"""Messages as text; True ends with the generation prompt."""

_EXCERPT = 40
_BLANKS = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class MessagePart:
    """Something that a message says.

    Attributes:
        message: Its index.
        what: `text`, `reasoning`, `name` or `arguments`.
        value: What is said, as text.
        call: The tool that is called, for the last two.
    """

    message: int
    what: str
    value: str
    call: str = ""


def left_out(messages: Sequence[Mapping[str, Any]], render: Render) -> list[MessagePart]:
    """What of the messages a model does not get to read.

    Args:
        messages: In the form of chat templates.
        render: The template.

    Raises:
        PlanError: The template refuses the messages.
    """
    text = render(messages, True)
    marked, marks = _marked(messages, _stem(text, messages))
    try:
        shown = render(marked, True)
    except PlanError:  # it takes such messages only: look for the parts themselves
        return [p for p in parts_of(messages) if not appears(p, text)]
    lost = [(mark, p) for mark, p in marks if mark not in shown]
    return [p for mark, p in lost if not _earlier_reasoning(mark, p, marked, render)]


def _earlier_reasoning(
    mark: str, part: MessagePart, marked: Sequence[Mapping[str, Any]], render: Render
) -> bool:
    if part.what != "reasoning" or part.message == len(marked) - 1:
        return False
    try:
        return mark in render(marked[: part.message + 1], False)
    except PlanError:
        return False


def refuse_left_out(messages: Sequence[Mapping[str, Any]], render: Render) -> None:
    """Refuse messages of which the template leaves something out.

    Raises:
        PlanError: It does, or it refuses them itself; the sentence says what vanishes.
    """
    if lost := left_out(messages, render):
        raise PlanError(told(lost, messages))


def told(lost: Sequence[MessagePart], messages: Sequence[Mapping[str, Any]]) -> str:
    """What is left out, as a sentence."""
    first = lost[0]
    role = messages[first.message]["role"]
    of_call = {p.what for p in lost if (p.message, p.call) == (first.message, first.call)}
    if first.call and of_call == {"name", "arguments"}:
        what = f"the call of tool {first.call!r}"
    elif first.call:
        what = f"the {first.what} of the call of tool {first.call!r}"
    else:
        what = f"the {first.what}"
    said = " ".join(first.value.split())
    said = said if len(said) <= _EXCERPT else said[: _EXCERPT - 3] + "..."
    others = len({(p.message, p.what, p.call) for p in lost}) - len(of_call if first.call else {1})
    more = f" (and {others} more)" if others else ""
    return (
        f"the model's chat template does not show {what} in message {first.message + 1} "
        f"({role}): {said!r}{more}"
    )


def parts_of(messages: Sequence[Mapping[str, Any]]) -> Iterator[MessagePart]:
    """Everything that messages say."""
    for i, m in enumerate(messages):
        for p in _parts(m):
            yield MessagePart(i, *p)


def _parts(m: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    content = str(m.get("content") or "")
    thought, closed, content = divided(content) if m["role"] == "assistant" else ("", "", content)
    if closed:
        yield "reasoning", unopened(thought), ""
    if thought := str(m.get("reasoning_content") or ""):
        yield "reasoning", thought, ""
    yield "text", content, ""
    for asked in m.get("tool_calls") or ():
        function = asked["function"]
        yield "name", function["name"], function["name"]
        if (arguments := function["arguments"]) not in ("", {}, [], None):
            said = arguments if isinstance(arguments, str) else json.dumps(arguments)
            yield "arguments", said, function["name"]


def appears(part: MessagePart, text: str) -> bool:
    """Whether a part stands in a text as it is, as JSON, or value by value; blanks apart."""
    within = _BLANKS.sub("", text)
    forms = [part.value, json.dumps(part.value)[1:-1]]
    forms.append(json.dumps(part.value, ensure_ascii=False)[1:-1])
    if part.what == "arguments":
        try:
            value = decode(part.value)
        except OutsideError:
            value = None
        if value is not None and all(_said(leaf, within) for leaf in _leaves(value)):
            return True
    return any(_BLANKS.sub("", form) in within for form in forms)


def _said(leaf: object, within: str) -> bool:
    forms = [str(leaf), json.dumps(leaf), json.dumps(leaf, ensure_ascii=False)]
    plain = [f[1:-1] for f in forms[1:]] if isinstance(leaf, str) else []
    return any(_BLANKS.sub("", f) in within for f in (*forms, *plain))


def _leaves(value: object) -> Iterator[object]:
    """Keys and values without what holds them."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _stem(text: str, messages: Sequence[Mapping[str, Any]]) -> str:
    """A word that stands nowhere, so that what is found was shown."""
    held = text + json.dumps([dict(m) for m in messages], default=str)
    return next(s for n in count() if (s := f"qzv{n}") not in held)


def _marked(
    messages: Sequence[Mapping[str, Any]], stem: str
) -> tuple[list[dict[str, Any]], list[tuple[str, MessagePart]]]:
    """Messages whose every part ends in a mark, and the marks."""
    marks: list[tuple[str, MessagePart]] = []

    def mark(i: int, what: str, value: str, call: str = "") -> str:
        word = f"{stem}n{len(marks)}e"
        marks.append((word, MessagePart(i, what, value, call)))
        return word

    out: list[dict[str, Any]] = []
    for i, message in enumerate(messages):
        m = dict(message)
        content, assistant = str(m.get("content") or ""), m["role"] == "assistant"
        thought, closed, said = divided(content) if assistant else ("", "", content)
        if inner := unopened(thought).strip():
            thought = f"{thought.rstrip()} {mark(i, 'reasoning', inner)}\n"
        if said.strip():
            said = f"{said.rstrip()} {mark(i, 'text', said)}"
        if content:
            m["content"] = thought + closed + said
        if (alone := m.get("reasoning_content")) and str(alone).strip():
            m["reasoning_content"] = f"{alone} {mark(i, 'reasoning', str(alone))}"
        if m.get("tool_calls"):
            m["tool_calls"] = [_marked_call(c, i, mark) for c in m["tool_calls"]]
        out.append(m)
    return out, marks


def _marked_call(
    asked: Mapping[str, Any], i: int, mark: Callable[[int, str, str, str], str]
) -> dict[str, Any]:
    function = dict(asked["function"])
    name, arguments = str(function["name"]), function["arguments"]
    function["name"] = name + mark(i, "name", name, name)
    if isinstance(arguments, str) and arguments.strip():
        function["arguments"] = arguments + mark(i, "arguments", arguments, name)
    elif isinstance(arguments, Mapping) and arguments:
        word = mark(i, "arguments", json.dumps(arguments), name)
        function["arguments"] = {**arguments, _unused(arguments): word}
    elif isinstance(arguments, list) and arguments:
        function["arguments"] = [*arguments, mark(i, "arguments", json.dumps(arguments), name)]
    return {**asked, "function": function}


def _unused(arguments: Mapping[str, Any]) -> str:
    return next(key for n in count() if (key := f"more{n}") not in arguments)
