"""What a model wrote at a step, read: its reasoning, its words, its tool calls. Pure.

Models write calls in the form of their chat template. Read are

    <tool_call>{"name": ..., "arguments": {...}}</tool_call>                      Hermes, Qwen
    <tool_call>name words</tool_call>                                             the testbed
    <function=name>{...}</function>, or <parameter=key>value</parameter> in it    Llama, Qwen-Coder
    <tool_call>name <arg_key>k</arg_key><arg_value>v</arg_value></tool_call>      GLM
    [TOOL_CALLS][{"name": ..., "arguments": {...}}], [TOOL_CALLS]name{...}        Mistral
    ...tool_call_begin...name...{...}...tool_call_end...                          DeepSeek
    {"name": ..., "parameters": {...}} as the whole text, or a list of such       Llama, Mistral

A call in another form is no call here: an environment has the exact text to read it from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.text.tags import opener, parted, unopened

_BAR, _GAP = "[|\uff5c]", "[_\u2581]"
_DEEPSEEK = re.compile(
    rf"<{_BAR}tool{_GAP}call{_GAP}begin{_BAR}>(?P<body>.*?)<{_BAR}tool{_GAP}call{_GAP}end{_BAR}>",
    re.DOTALL,
)
_DEEPSEEK_SEPARATOR = re.compile(rf"<{_BAR}tool{_GAP}sep{_BAR}>")
_CALLS = re.compile(
    r"<tool_call>\s*(?P<hermes>.*?)\s*</tool_call>"
    r"|(?P<function><function=[^>]+>.*?</function>)"
    r"|\[TOOL_CALLS\]\s*(?P<mistral>.*)",
    re.DOTALL,
)
_FUNCTION = re.compile(r"<function=(?P<name>[^>]+)>(?P<body>.*?)</function>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter=([^>]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
_ARGUMENT = re.compile(r"<arg_key>\s*(.*?)\s*</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ParsedCall:
    """A tool call that a model wrote.

    Attributes:
        name: The tool.
        arguments: Their JSON value, most often a dict; a text where they are no JSON.
        text: The arguments as written.
    """

    name: str
    arguments: Any
    text: str

    def reply(self, content: object) -> dict[str, Any]:
        """The message with which the tool answers."""
        said = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return {"role": "tool", "name": self.name, "content": said}


class Action(str):
    """What a model wrote, exactly as it follows the generation prompt; a text that can be asked."""

    @cached_property
    def _parts(self) -> tuple[str, str]:
        thought, rest = parted(self)
        if not rest.strip():
            return "", str(self)
        return unopened(thought).strip(), rest

    @property
    def reasoning(self) -> str:
        """What was thought before it; empty where nothing was."""
        return self._parts[0]

    @cached_property
    def calls(self) -> tuple[ParsedCall, ...]:
        """The tool calls, in order."""
        return tuple(_calls(self._parts[1]))

    @property
    def text(self) -> str:
        """What was said, without reasoning and calls."""
        said = self._parts[1]
        if self.calls and _whole(said) is not None:
            return ""
        return _CALLS.sub("", _DEEPSEEK.sub("", said)).strip()

    @property
    def message(self) -> dict[str, Any]:
        """The assistant's message that holds it, for the chat; with the mark that it lacks.

        Chat templates open the reasoning (`<think>`) in the prompt.
        """
        opens = opener(self)
        return {"role": "assistant", "content": (f"{opens}\n" if opens else "") + str(self)}


def _calls(said: str) -> Iterator[ParsedCall]:
    if (whole := _whole(said)) is not None:
        yield from whole
        return
    for found in _DEEPSEEK.finditer(said):
        *_, last = _DEEPSEEK_SEPARATOR.split(found["body"])
        name, _, rest = last.strip().partition("\n")
        yield _call(name.strip(), rest.strip().removeprefix("```json").removesuffix("```").strip())
    for found in _CALLS.finditer(said):
        if found["hermes"] is not None:
            yield _hermes(found["hermes"])
        elif found["function"] is not None:
            yield _function(found["function"])
        else:
            yield from _mistral(found["mistral"].strip())


def _hermes(body: str) -> ParsedCall:
    if (call := _named(_json(body))) is not None:
        return call
    if _FUNCTION.match(body):
        return _function(body)
    if pairs := _ARGUMENT.findall(body):
        return _pairs(body.partition("<arg_key>")[0].strip(), pairs)
    name, _, rest = body.partition(" ")
    return _call(name, " ".join(rest.split()))


def _function(body: str) -> ParsedCall:
    found = _FUNCTION.match(body)
    assert found is not None
    name, inner = found["name"].strip(), found["body"]
    pairs = _PARAMETER.findall(inner)
    return _pairs(name, pairs) if pairs else _call(name, inner.strip())


def _mistral(body: str) -> Iterator[ParsedCall]:
    if (listed := _whole(body)) is not None:
        yield from listed
        return
    for part in body.split("[TOOL_CALLS]"):
        name, brace, rest = part.strip().partition("{")
        yield _call(name.removesuffix("[ARGS]").strip(), brace + rest)


def _whole(said: str) -> list[ParsedCall] | None:
    """Calls of a text that is nothing but JSON."""
    text = said.strip()
    value = _json(text) if text[:1] in ("{", "[") else None
    listed = value if isinstance(value, list) else [value]
    calls = [c for v in listed if (c := _named(v, strict=True)) is not None]
    return calls if calls and len(calls) == len(listed) else None


def _named(value: Any, *, strict: bool = False) -> ParsedCall | None:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        return None
    key = "parameters" if "parameters" in value and "arguments" not in value else "arguments"
    if strict and key not in value:
        return None
    arguments = value.get(key, {})
    if isinstance(arguments, str):
        return _call(value["name"], arguments)
    return ParsedCall(value["name"], arguments, json.dumps(arguments, ensure_ascii=False))


def _pairs(name: str, pairs: list[tuple[str, str]]) -> ParsedCall:
    """A call whose arguments stand one by one: JSON where one is JSON, else text."""
    arguments = {}
    for key, raw in pairs:
        value = _json(raw)
        arguments[key.strip()] = raw if value is None and raw.strip() != "null" else value
    return ParsedCall(name, arguments, json.dumps(arguments, ensure_ascii=False))


def _call(name: str, raw: str) -> ParsedCall:
    value = _json(raw)
    return ParsedCall(name, raw if value is None else value, raw)


def _json(text: str) -> Any:
    try:
        return decode(text, depth=INNER_DEPTH)
    except OutsideError:
        return None
