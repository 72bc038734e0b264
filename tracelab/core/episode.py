"""One recorded run of one or several agents, as steps that can be blamed.

Pure: no I/O. An `Episode` is what every agent log becomes, whatever its format. The messages that
models were given are content-addressed and shared: an input is a chain of message hashes, so a
conversation that grows by one message a step is stored once, not once a step. Round trips:
`Episode.from_json(episode.to_json()) == episode`, and `Trace.of_episode` keeps it whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Literal

from tracelab.core.hashing import content_hash
from tracelab.core.outside import OutsideError, decode
from tracelab.core.unit import Unit

StepKind = Literal["llm", "tool", "user", "system"]
SEGMENTER = "steps-v1"
"""Name of what cuts an episode's transcript into units."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """Arguments of a tool call: the exact text, and its value or why it has none.

    Attributes:
        raw: As the model wrote them (where the log holds a value: as JSON, keys in its order).
        parsed: Their JSON value; None when `error` is set.
        error: Why `raw` is not JSON.
    """

    raw: str
    parsed: Any = None
    error: str | None = None

    @classmethod
    def of(cls, value: object) -> Arguments:
        """Read a JSON text, or take a JSON value as it is."""
        if isinstance(value, str) and not value.strip():
            return cls(value)  # called without arguments
        if not isinstance(value, str):
            return cls(json.dumps(value, ensure_ascii=False), value)
        try:
            return cls(value, decode(value))
        except OutsideError as e:
            why = e.reason.removeprefix("Not valid JSON: ").rstrip(".")
            return cls(value, None, f"not valid JSON: {why}")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asked for; what came of it is a `tool` step."""

    name: str
    arguments: Arguments
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Something one participant did.

    Attributes:
        index: Position in the episode, from 0.
        kind: `llm` (a model wrote it), `tool` (a tool answered), `user` or `system`.
        agent: Who did it; for a tool step, the agent that called it where the log says so.
        content: What it added to the conversation, as text. For a tool step: its result.
        reasoning: What the model thought before it, where the log keeps that apart.
        calls: Tool calls that an `llm` step asked for.
        tool: Name of the tool, for a `tool` step.
        tool_call_id: Which call a `tool` step answers.
        arguments: What the tool was called with, where known.
        result: What the tool answered; None when the log has no answer, which is not "".
        input: Key into `Episode.inputs`: the exact model input of an `llm` step; None when the
            log does not hold it.
        tools: Key into `Episode.messages`: the tool definitions the model was given.
        prompt_tokens: Tokens of the input.
        output_tokens: Tokens written.
        parent: Index of the step that led to it (the call of a result, ...).
        flags: What was wrong or special: `missing_result`, `orphan_result`, `duplicate_id`,
            `invalid_arguments`, `binary`, `non_text`, `no_content`, `missing_parent`,
            `coordinator` (hands work to others), `copied_context`, `error`.
        place: Where in the record it stands: `messages[3]`, `line 7`, `span 5b8e`; empty where the
            reader does not say.
    """

    index: int
    kind: StepKind
    agent: str | None = None
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    tool: str | None = None
    tool_call_id: str | None = None
    arguments: Arguments | None = None
    result: str | None = None
    input: str | None = None
    tools: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    parent: int | None = None
    flags: tuple[str, ...] = ()
    reasoning: str = ""
    place: str = ""

    def text(self) -> str:
        """The step as one would read it: content, then the calls it asks for."""
        calls = [f"[call {c.name} {c.arguments.raw}]" for c in self.calls]
        if self.kind == "tool" and self.result is None and not self.content:
            return "[no result was recorded]"
        return "\n".join(part for part in (self.content, *calls) if part)


@dataclass(frozen=True, slots=True)
class Label:
    """Who and when, as annotated: the decisive step, its agent, and why."""

    step: int | None
    agent: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One run.

    Attributes:
        name: How the user calls it.
        steps: What was done, in order; `steps[i].index == i`.
        format: The importer that read it.
        source: The file.
        line: Line of the file, from 1; 0 when it does not stand on a line.
        task: What was asked.
        task_id: Which task of a benchmark it is.
        model: The model, as the source names it.
        version: Version of the agent system.
        success: Whether the task was solved; None when unknown.
        reward: The recorded score, where it is a number.
        answer: The run's final answer.
        reference: The correct answer.
        label: The annotated decisive step, if there is one.
        messages: Content-addressed JSON messages and tool definitions, as the log has them.
        inputs: Chains: key → (key of all but the last message or None, key of the last message).
        meta: What else the log says, JSON values only.
        notes: What was repaired or left out while reading, one sentence each.
    """

    name: str
    steps: tuple[Step, ...]
    format: str
    source: str = ""
    line: int = 0
    task: str = ""
    task_id: str | None = None
    model: str | None = None
    version: str | None = None
    success: bool | None = None
    reward: float | None = None
    answer: str | None = None
    reference: str | None = None
    label: Label | None = None
    messages: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, tuple[str | None, str]] = field(default_factory=dict)
    meta: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def model_input(self, step: int) -> list[Any] | None:
        """The messages a step's model was given, in order; None when the log lacks them."""
        key = self.steps[step].input
        if key is None:
            return None
        chain: list[Any] = []
        node: str | None = key
        while node is not None:
            node, message = self.inputs[node]
            chain.append(self.messages[message])
        return chain[::-1]

    def agents(self) -> tuple[str, ...]:
        """Everybody who took a step, in order of appearance."""
        return tuple(dict.fromkeys(s.agent for s in self.steps if s.agent is not None))

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form without what is empty; `from_json` inverts it."""
        data = _sparse(self)
        data["steps"] = [_step_json(s) for s in self.steps]
        if self.inputs:
            data["inputs"] = {key: list(node) for key, node in self.inputs.items()}
        if self.label is not None:
            data["label"] = [self.label.step, self.label.agent, self.label.reason]
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Episode:
        """Rebuild an episode written by `to_json`."""
        rest = {k: data[k] for k in data if k not in ("steps", "inputs", "label", "notes")}
        label = data.get("label")
        return cls(
            steps=tuple(_step(s, i) for i, s in enumerate(data["steps"])),
            inputs={k: (v[0], v[1]) for k, v in data.get("inputs", {}).items()},
            label=None if label is None else Label(*label),
            notes=tuple(data.get("notes", ())),
            **rest,
        )

    def step_units(self) -> list[Unit]:
        """The steps as units that tile the transcript (characters; tokens are unknown, 0)."""
        units: list[Unit] = []
        at = 0
        for step in self.steps:
            text = f"{_speaker(step)}: {step.text()}\n\n"
            units.append(Unit("step", step.index, at, at + len(text), 0, 0, text))
            at += len(text)
        return units


class InputStore:
    """Builds the `messages` and `inputs` of an episode while it is read."""

    def __init__(self) -> None:
        """Start empty."""
        self.messages: dict[str, Any] = {}
        self.inputs: dict[str, tuple[str | None, str]] = {}
        # Inputs share most of their messages, as the same objects: each is hashed once.
        self._keys: dict[int, tuple[Any, str]] = {}
        self._nodes: dict[tuple[str | None, str], str] = {}

    def put(self, message: Any) -> str:
        """Store a JSON value; return its key (24 hex characters of a hash of the content).

        What was stored must not be changed afterwards.
        """
        if (known := self._keys.get(id(message))) is not None:
            return known[1]
        key = content_hash(message, size=12)
        self.messages.setdefault(key, message)
        self._keys[id(message)] = (message, key)  # held, so that its id stays its own
        return key

    def extend(self, before: str | None, message: Any) -> str:
        """Return the key of the input that is `before` and then one message more."""
        last = self.put(message)
        if (known := self._nodes.get((before, last))) is not None:
            return known
        key = content_hash([before, last], size=12)
        self.inputs.setdefault(key, (before, last))
        self._nodes[before, last] = key
        return key

    def chain(self, messages: Iterable[Any]) -> str | None:
        """Store a whole input; None when it has no messages."""
        node: str | None = None
        for message in messages:
            node = self.extend(node, message)
        return node


def fold_role(role: str) -> str:
    """An agent's name without its function: `Orchestrator (-> X)` is the Orchestrator."""
    name = role.strip()
    return name[: name.rindex("(")].rstrip() or name if name.endswith(")") and "(" in name else name


def _speaker(step: Step) -> str:
    if step.kind != "tool":
        return step.agent or step.kind
    called = step.tool or "tool"
    if step.arguments is not None:
        called += f"({step.arguments.raw})"
    return called if step.agent in (None, step.tool) else f"{step.agent} · {called}"


def _sparse(value: Any) -> dict[str, Any]:
    """Fields of a dataclass that differ from their defaults."""
    out: dict[str, Any] = {}
    for f in fields(value):
        held = getattr(value, f.name)
        empty = f.default if f.default is not MISSING else None
        if held is not None and held != empty and held not in ((), {}):
            out[f.name] = list(held) if isinstance(held, tuple) else held
    return out


def _step_json(step: Step) -> dict[str, Any]:
    data = _sparse(step)
    del data["kind"]
    data.pop("index", None)
    if step.calls:
        data["calls"] = [[c.name, c.arguments.raw, c.id] for c in step.calls]
    if step.arguments is not None:
        data["arguments"] = step.arguments.raw
    if step.kind == "tool":  # its content is its result, unless the log says otherwise
        data.pop("content", None)
        if step.content != (step.result or ""):
            data["content"] = step.content
    return {"kind": step.kind, **data}


def _step(data: Mapping[str, Any], index: int) -> Step:
    rest = {k: data[k] for k in data if k not in ("calls", "arguments", "flags")}
    if rest["kind"] == "tool" and "content" not in rest:
        rest["content"] = rest.get("result") or ""
    raw = data.get("arguments")
    return Step(
        index=index,
        calls=tuple(ToolCall(n, Arguments.of(a), i) for n, a, i in data.get("calls", ())),
        arguments=None if raw is None else Arguments.of(raw),
        flags=tuple(data.get("flags", ())),
        **rest,
    )
