"""Inspect logs: `.eval` (a ZIP of JSON, deflated or zstandard) and `.json`; one run a sample.

Own reader, so that neither `inspect-ai` nor its dependencies are needed; samples are read one at
a time. Model events become `llm` steps with their exact input (`input_refs` and `attachment://`
references resolved), tool events their results. A sample without events is read from its messages.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.messages import calls_of, reasoning_of, text_of, text_or_none
from tracelab.core.outside import decode, finite
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import StepList, count_or_none, finish
from tracelab.sources.agents.inspect_zip import inspect_samples
from tracelab.sources.agents.openai_chat import chat_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat, caught, excerpt
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

_ATTACHMENT = re.compile(r"attachment://([0-9a-f]{32})")
_ZIP = b"PK\x03\x04"
MAX_ADDED, ADDED_RATIO = 16 << 20, 4
MAX_REFERRED = 500_000
_LETTERS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0}
_MISSING = "A model input refers to messages that the log does not hold."
_READ = ("model", "tool", "span_begin", "span_end", "state", "step", "sample_init")
_POOLS = ("messages", "input", "events", "events_data", "message_pool", "call_pool", "attachments",
          "output", "store", "scores")  # fmt: skip


def read_inspect(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each sample of a log.

    Raises:
        ImportFormatError: It is not a log, or a damaged one.
    """
    seen = Seen() if seen is None else seen
    header: dict[str, Any] = {}
    for number, (name, data, problem) in enumerate(inspect_samples(path, header), 1):
        start = data if isinstance(data, bytes) else b""
        if problem:
            yield Reject(str(path), number, f"{name}: {problem}", excerpt(start))
            continue

        def made(name: str = name, data: Any = data, number: int = number) -> Trace | Reject:
            sample = decode(data, repair=True) if isinstance(data, bytes) else data
            size = len(data) if isinstance(data, bytes) else path.stat().st_size
            episode = _episode(sample, header, path, name, number, _Room(size))
            return finish(episode, seen, f"sample {name}")

        yield caught(made, str(path), number, start, place=name)


class _Room:
    """How much references may add: to a sample, what they stand for is written out each time."""

    def __init__(self, size: int) -> None:
        self.characters = MAX_ADDED + ADDED_RATIO * size
        self.messages = MAX_REFERRED + size // 8

    def add(self, text: str) -> str:
        self.characters -= len(text)
        if self.characters < 0:
            raise BadRecordError(
                f"Attachments make it longer by more than {MAX_ADDED >> 20} MiB and "
                f"{ADDED_RATIO} times its size."
            )
        return text

    def refer(self, messages: list[Any]) -> list[Any]:
        self.messages -= len(messages)
        if self.messages < 0:
            raise BadRecordError(
                f"Model inputs refer to more than {MAX_REFERRED} messages and one for 8 bytes."
            )
        return messages


def _episode(
    sample: Any, header: dict[str, Any], path: Path, place: str, number: int, room: _Room
) -> Episode:
    if not isinstance(sample, dict):
        raise BadRecordError("The sample is not a JSON object.")
    attachments = sample.get("attachments")
    if isinstance(attachments, dict) and attachments:
        sample = _attach({k: v for k, v in sample.items() if k != "attachments"}, attachments, room)
    spec = header.get("eval")
    spec = spec if isinstance(spec, dict) else {}
    notes: list[str] = []
    dropped: Counter[str] = Counter()
    events = [e for e in _list(sample.get("events")) if isinstance(e, dict)]
    if any(e.get("event") == "model" for e in events):
        out = _from_events(events, _pool(sample), notes, room)
        dropped.update(
            f"events of kind {_short(e.get('event'))}" for e in events
            if e.get("event") not in _READ
        )  # fmt: skip
    else:
        out = chat_steps(_list(sample.get("messages")), None, dropped)
        notes.append("The sample has no model events; its steps are its messages.")
    sample_id, epoch = text_or_none(sample.get("id")) or place, sample.get("epoch", 1)
    if isinstance(error := sample.get("error"), dict):
        notes.append(f"The sample ended in an error: {_short(error.get('message'))}")
    success, reward, answer = _outcome(sample.get("scores"), notes)
    task = next((s.content for s in out.steps if s.kind == "user"), "") or _asked(sample)
    target = sample.get("target")
    target = target[0] if isinstance(target, list) and len(target) == 1 else target
    version = spec.get("revision")
    commit = version.get("commit") if isinstance(version, dict) else None
    return Episode(
        name=f"{sample_id}/{epoch}",
        steps=tuple(out.steps),
        format="inspect",
        source=str(path),
        line=number,
        task=task,
        task_id=sample_id,
        model=text_or_none(spec.get("model")),
        version=text_or_none(commit) or text_or_none(spec.get("task_version")),
        success=success,
        reward=reward,
        answer=answer,
        reference=text_or_none(target),
        messages=out.store.messages,
        inputs=out.store.inputs,
        meta={**{k: v for k, v in sample.items() if k not in _POOLS},
              "scores": sample.get("scores"), "task": spec.get("task"),
              "run_id": spec.get("run_id"),
              **({"dropped": dict(dropped)} if dropped else {})},
        notes=tuple(notes),
    )  # fmt: skip


class _Span(NamedTuple):
    parent: str | None
    agent: str | None


def _from_events(
    events: list[dict[str, Any]], pool: list[Any], notes: list[str], room: _Room
) -> StepList:
    out, said, heard = StepList(), Counter[str](), set[int]()
    spans: dict[str, _Span] = {}
    for number, event in enumerate(events):
        kind, place = event.get("event"), f"events[{number}]"
        if kind == "span_begin" and isinstance(event.get("id"), str):
            agent = event.get("name") if event.get("type") == "agent" else None
            spans[event["id"]] = _Span(text_or_none(event.get("parent_id")), text_or_none(agent))
        elif kind == "model":
            _add_model(
                out,
                event,
                pool,
                _agent(event.get("span_id"), spans),
                said,
                heard,
                notes,
                room,
                place,
            )
        elif kind == "tool":
            text, flags = _with_error(event, *text_of(event.get("result")))
            call_id = text_or_none(event.get("id"))
            out.result(
                call_id, text, flags, tool=text_or_none(event.get("function")), place=place,
                arguments=Arguments.of(event.get("arguments") or {}),
            )  # fmt: skip
    out.unanswered()
    return out


def _add_model(
    out: StepList, event: dict[str, Any], pool: list[Any], agent: str | None,
    said: Counter[str], heard: set[int], notes: list[str], room: _Room,
    place: str,
) -> None:  # fmt: skip
    given, referred = _list(event.get("input")), list[Any]()
    for ref in _list(event.get("input_refs")) if not given else []:
        if isinstance(ref, list) and len(ref) == 2 and all(isinstance(i, int) for i in ref):
            if not 0 <= ref[0] <= ref[1] <= len(pool):
                if _MISSING not in notes:
                    notes.append(_MISSING)
            first, end = max(ref[0], 0), min(ref[1], len(pool))
            referred += room.refer(pool[first:end])
    given = given or referred
    here: Counter[str] = Counter()  # an input repeats those before it; some messages have no id
    for message in given:
        if not isinstance(message, dict) or id(message) in heard:
            continue
        heard.add(id(message))  # the log holds it: pools are referred to again and again
        role = message.get("role")
        key = text_or_none(message.get("id")) or json.dumps(message, sort_keys=True)
        here[key] += 1
        if here[key] <= said[key]:
            continue
        said[key] += 1
        text, flags = text_of(message.get("content"))
        if role in ("user", "system"):
            out.add(Step(0, role, agent=role, content=text, flags=flags, place=f"{place} input"))
        elif role == "tool":
            call_id = text_or_none(message.get("tool_call_id"))
            if call_id is not None and out.is_open(call_id):
                text, flags = _with_error(message, text, flags)
                out.result(call_id, text, flags, tool=text_or_none(message.get("function")),
                           place=f"{place} input")  # fmt: skip
    output = event.get("output")
    output = output if isinstance(output, dict) else {}
    choices = _list(output.get("choices"))
    message = choices[0].get("message") if choices and isinstance(choices[0], dict) else None
    message = message if isinstance(message, dict) else {}
    text, flags = text_of(message.get("content"))
    if event.get("error") or output.get("error"):
        flags = (*flags, "error")
    usage = output.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    tools = event.get("tools")
    out.add(
        Step(
            index=0,
            kind="llm",
            agent=agent or "assistant",
            content=text,
            calls=_calls(message),
            input=out.chain(given),
            tools=out.store.put(tools) if tools else None,
            prompt_tokens=count_or_none(usage.get("input_tokens")),
            output_tokens=count_or_none(usage.get("output_tokens")),
            flags=flags if message else (*flags, "no_content"),
            reasoning=reasoning_of(message),
            place=place,
        )
    )


def _with_error(
    held: dict[str, Any], text: str, flags: tuple[str, ...]
) -> tuple[str, tuple[str, ...]]:
    """What a tool answered, or how it failed."""
    error = held.get("error")
    if not isinstance(error, dict):
        return text, flags
    return text or str(error.get("message") or ""), (*flags, "error")


def _calls(message: dict[str, Any]) -> tuple[ToolCall, ...]:
    """Tool calls. Of arguments that Inspect could not parse it keeps only its own error."""
    errors = [c.get("parse_error") for c in _list(message.get("tool_calls")) if isinstance(c, dict)]
    return tuple(
        ToolCall(c.name, Arguments.of(f"unparsed: {e}"), c.id) if isinstance(e, str) and e else c
        for c, e in zip(calls_of(message), errors, strict=False)
    )


def _agent(span: Any, spans: dict[str, _Span]) -> str | None:
    for _ in range(len(spans) + 1):  # a parent may, in a damaged log, be its own child
        if not isinstance(span, str) or span not in spans:
            return None
        if spans[span].agent is not None:
            return spans[span].agent
        span = spans[span].parent
    return None


def _pool(sample: dict[str, Any]) -> list[Any]:
    """The messages that inputs refer to by number: older logs keep them beside the events."""
    data = sample.get("events_data")
    found = _list(data.get("messages")) if isinstance(data, dict) else []
    return found or _list(sample.get("message_pool"))


def _asked(sample: dict[str, Any]) -> str:
    """What a sample was given, a text or messages."""
    given = sample.get("input")
    if isinstance(given, str):
        return given
    last = next(
        (m for m in reversed(_list(given)) if isinstance(m, dict) and m.get("role") == "user"), {}
    )
    return text_of(last.get("content"))[0]


def _attach(value: Any, attachments: dict[str, Any], room: _Room) -> Any:
    """Put attachments back where they are referred to."""
    if isinstance(value, str):
        return _ATTACHMENT.sub(lambda m: room.add(str(attachments.get(m[1], m[0]))), value)
    if isinstance(value, list):
        return [_attach(v, attachments, room) for v in value]
    if isinstance(value, dict):
        return {k: _attach(v, attachments, room) for k, v in value.items()}
    return value


def _outcome(scores: Any, notes: list[str]) -> tuple[bool | None, float | None, str | None]:
    """Success, numeric score and answer, where the scorers that say an outcome agree on it.

    A scorer that sorts (a value that is no number and none of Inspect's letters) says none.
    """
    named = scores.items() if isinstance(scores, dict) else ()
    rewards = {str(k): r for k, s in named if (r := _reward(s)) is not None}
    told = {str(k): text_or_none(s.get("answer")) for k, s in named if isinstance(s, dict)}
    answers = [told[k] for k in (*rewards, *told) if told.get(k) is not None]
    answer = answers[0] if answers else None
    if len(told) > 1 and rewards:
        names = ", ".join(_short(k) for k in rewards)
        notes.append(
            f"{len(told)} scorers; the outcome is that of {names}." if len(set(rewards.values()))
            == 1 else f"The scorers {names} disagree, so the outcome is not known."
        )  # fmt: skip
    if len(set(rewards.values())) != 1:
        return None, None, answer
    reward = next(iter(rewards.values()))
    return (bool(reward) if reward in (0.0, 1.0) else None), reward, answer


def _reward(score: Any) -> float | None:
    """What a scorer's value is worth; None where it is no outcome."""
    value = score.get("value") if isinstance(score, dict) else None
    if isinstance(value, str):
        return _LETTERS.get(value)
    return float(value) if isinstance(value, bool) else finite(value)


def _short(value: Any) -> str:
    """The beginning of a text on one line."""
    return " ".join(str(value).split())[:200]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


@SOURCES.register("inspect", order=40)
class Inspect(SourceFormat):
    """Inspect logs, `.eval` and `.json`: a run a sample."""

    suffixes = (".eval", *LINES, *DOCUMENTS)
    scored_later = True
    read = staticmethod(read_inspect)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        if head.start.startswith(_ZIP):
            return head.name.endswith(".eval")
        data = head.record
        if isinstance(data.get("eval"), dict) and ("samples" in data or "plan" in data):
            return True
        return head.shows(rb'"eval"\s*:\s*\{.*"plan"\s*:\s*\{')
