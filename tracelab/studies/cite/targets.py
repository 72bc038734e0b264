"""What is being explained: ranges of a response, texts the model did not write, A rather than B.

A target is a half-open token range of a *continuation*. Continuation 0 is the response; others are
given texts, which stand after some first part of the response. The log-probabilities of all tokens
of a continuation come from one forward pass per mask, so several targets of it cost no more than
one. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tracelab.core.errors import PlanError
from tracelab.core.trace import TokenizedTrace
from tracelab.text.segment import segment
from tracelab.text.tags import reasoning_end

Kind = Literal["sentence", "range", "response", "action", "given", "contrast"]

_ACTION = re.compile(r"<tool_call>.*?(?:</tool_call>|\Z)", re.DOTALL)
_WORDS: Mapping[str, Kind] = {"sentences": "sentence", "response": "response", "action": "action"}


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens whose log-probabilities are asked after an ablated prompt.

    Attributes:
        after: Response tokens that stand between the prompt and them.
        ids: The tokens.
    """

    after: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to explain.

    Attributes:
        name: Unique in its trace: `sentence:3`, `range:10-24`, `given:0`, ...
        kind: See `Kind`.
        text: What it says.
        start: First token of its continuation.
        end: One past the last.
        continuation: Which one; 0 is the response.
        rather_than: For a contrast: the continuation it is held against; all of both counts.
        other: What that one says.
    """

    name: str
    kind: Kind
    text: str
    start: int
    end: int
    continuation: int = 0
    rather_than: int | None = None
    other: str | None = None


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """What a record asks to be explained; see `parse_targets`."""

    kind: Kind
    text: str = ""
    start: int = 0
    end: int = 0
    rather_than: str = ""
    after: str | None = None


def parse_targets(value: object) -> tuple[TargetSpec, ...]:
    """Read a record's `target`.

    One of these, or a list of them; nothing means `sentences`:

    - `"sentences"`, `"response"` (all of it), `"action"` (its tool call, else what follows the
      reasoning); any other string is a text that stands in the response;
    - `{"text": …}` the same; `{"start": a, "end": b}` characters of the response;
    - `{"given": …, "after": …}`: a text that the model need not have written, after a text of the
      response (default: in its place); with `"rather_than": …` a contrast of the two.

    Raises:
        PlanError: It is none of these.
    """
    if value is None:
        return (TargetSpec("sentence"),)
    if isinstance(value, list):
        if not value:
            raise PlanError("`target` is an empty list")
        return tuple(spec for part in value for spec in parse_targets(part))
    if isinstance(value, str):
        if value in _WORDS:
            return (TargetSpec(_WORDS[value]),)
        if not value.strip():
            raise PlanError("`target` is empty")
        return (TargetSpec("range", value),)
    if isinstance(value, Mapping):
        return (_parse_object(value),)
    raise PlanError("`target` must be a string, an object or a list of them")


def _parse_object(value: Mapping[str, Any]) -> TargetSpec:
    keys = set(value)
    texts = {k: v for k, v in value.items() if k in ("text", "given", "after", "rather_than")}
    if bad := next((k for k, v in texts.items() if not isinstance(v, str)), None):
        raise PlanError(f"`target.{bad}` must be a string")
    if keys == {"text"} and value["text"].strip():
        return TargetSpec("range", value["text"])
    if keys == {"start", "end"} and all(type(v) is int for v in value.values()):
        return TargetSpec("range", start=value["start"], end=value["end"])
    if "given" in keys and keys <= {"given", "after", "rather_than"}:
        kind: Kind = "contrast" if "rather_than" in keys else "given"
        other = value.get("rather_than", "")
        if not value["given"] or (kind == "contrast" and not other):
            raise PlanError("a given text of `target` is empty")
        return TargetSpec(kind, value["given"], rather_than=other, after=value.get("after"))
    raise PlanError(
        f"`target` has the keys {', '.join(sorted(keys)) or 'none'}; it needs `text`, or `start` "
        "and `end`, or `given` with `after` or `rather_than`"
    )


def resolve(
    specs: Sequence[TargetSpec],
    tokens: TokenizedTrace,
    encode: Callable[[str], tuple[int, ...]],
    *,
    segmenter: str = "reasoning-v1",
) -> tuple[tuple[Target, ...], tuple[Continuation, ...]]:
    """Place targets on tokens.

    Args:
        specs: What is asked.
        tokens: The response and its tokens.
        encode: Tokens of a given text.
        segmenter: What cuts the response into sentences.

    Returns:
        The targets, names unique, and the continuations they are ranges of; the first is the
        response itself, with an end-of-sequence token if it was generated.

    Raises:
        PlanError: A target is not in the response, or has no tokens.
    """
    response = tokens.trace.response
    continuations = [Continuation(0, tokens.response_ids)]
    found: list[Target] = []

    def place(name: str, kind: Kind, start: int, end: int) -> None:
        a, b = tokens.token_at(start), tokens.token_at(end)
        if a == b:
            raise PlanError(f"target {name} lies inside one token of what stands before it")
        found.append(Target(name, kind, response[start:end], a, b))

    def give(text: str, after: str | None) -> int:
        kept = 0
        if after:
            kept = tokens.token_at(_find(after, response) + len(after))
        ids = encode(text)
        if not ids:
            raise PlanError(f"the given text {text[:40]!r} has no tokens")
        continuations.append(Continuation(kept, ids))
        return len(continuations) - 1

    for i, spec in enumerate(specs):
        if spec.kind == "sentence":
            spans = segment(response, segmenter)
            for k, s in enumerate(spans):
                # A sentence inside a token of its predecessor has no log-probability of its own.
                if tokens.token_at(s.start) < tokens.token_at(s.end):
                    place(f"sentence:{k}", "sentence", s.start, s.end)
        elif spec.kind == "response":
            place("response", "response", 0, len(response))
        elif spec.kind == "action":
            place("action", "action", *_action(response))
        elif spec.kind == "range":
            a, b = spec.start, spec.end
            if spec.text:
                a = _find(spec.text, response)
                b = a + len(spec.text)
            elif not 0 <= a < b <= len(response):
                raise PlanError(
                    f"the target, characters {a} to {b}, is not in the response, which has "
                    f"{len(response)}"
                )
            place(f"range:{a}-{b}", "range", a, b)
        else:
            mine = give(spec.text, spec.after)
            other = give(spec.rather_than, spec.after) if spec.kind == "contrast" else None
            size = len(continuations[mine].ids)
            against = None if other is None else spec.rather_than
            name = f"{spec.kind}:{i}"
            found.append(Target(name, spec.kind, spec.text, 0, size, mine, other, against))
    unique = {t.name: t for t in found}
    if not unique:
        raise PlanError("the response has no sentence to explain")
    return tuple(unique.values()), tuple(continuations)


def _find(text: str, response: str) -> int:
    at = response.find(text)
    if at < 0:
        raise PlanError(
            f"the target {text[:60]!r} is not in the response; to score a text that the model did "
            'not write, give it as {"given": ...}'
        )
    return at


def _action(response: str) -> tuple[int, int]:
    """The response's tool call; without one, what follows the reasoning."""
    if call := _ACTION.search(response):
        return call.span()
    start = reasoning_end(response)
    return start + len(response[start:]) - len(response[start:].lstrip()), len(response)
