"""What tracelab explains: traces, their units, and their tokens.

Pure: no I/O, no tokenizer, no model. A `Trace` is text and provenance; `TokenizedTrace` adds the
exact token ids that a model was, or would be, given. Character ranges and token ranges are
half-open. Round trip: `Trace.from_json(trace.to_json()) == trace`.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

Role = Literal["system", "user", "assistant", "tool"]
UnitKind = Literal["sentence", "span", "step"]
Rendering = Literal["chat", "raw"]


def content_hash(value: object, size: int = 8) -> str:
    """Return a hex digest (2 x `size` characters) of a JSON-serialisable value.

    Canonical JSON (sorted keys, no spaces, UTF-8), so equal values hash equally on every machine.
    Lone surrogates, which hostile JSON can contain, are hashed by their escaped form.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()


@dataclass(frozen=True, slots=True)
class Turn:
    """One message: its exact text, and the token ids it was generated with where known."""

    role: Role
    text: str
    name: str | None = None
    token_ids: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded episode of a model.

    Attributes:
        turns: What was said, in order. The last turn is the assistant's response.
        name: How the user calls it: the record's `id`, or `file.jsonl:3`.
        model: The model that produced it, as the source names it; None when unknown.
        answer: The trace's own final answer, before normalisation; None when it has none.
        reference: The correct answer; None when unknown.
        success: The recorded success flag; None when unknown.
        rendering: How the prompt becomes tokens: `chat` applies the model's chat template, `raw`
            tokenises the text of the turns before the response as it stands.
        source: Where it came from (`testbed`, or a file as it was named).
        extra: Anything else the source knows (published figures, tags, ...), JSON values only.
        line: Line of the source it stood on, from 1; 0 when it does not stand on a line.
    """

    turns: tuple[Turn, ...]
    name: str
    model: str | None = None
    answer: str | None = None
    reference: str | None = None
    success: bool | None = None
    rendering: Rendering = "chat"
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0

    @property
    def trace_id(self) -> str:
        """Content hash (16 hex characters) of the turns, the rendering and the model."""
        turns = [[t.role, t.text, t.name] for t in self.turns]
        return content_hash([turns, self.rendering, self.model])

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the response."""
        return self.turns[:-1]

    @property
    def response(self) -> str:
        """The text of the last turn: what is being explained."""
        return self.turns[-1].text

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form; `from_json` inverts it."""
        return {
            "turns": [
                {
                    "role": t.role,
                    "text": t.text,
                    "name": t.name,
                    "token_ids": None if t.token_ids is None else list(t.token_ids),
                }
                for t in self.turns
            ],
            "name": self.name,
            "model": self.model,
            "answer": self.answer,
            "reference": self.reference,
            "success": self.success,
            "rendering": self.rendering,
            "source": self.source,
            "extra": dict(self.extra),
            "line": self.line,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Trace:
        """Rebuild a trace written by `to_json`."""
        turns = tuple(
            Turn(
                role=cast(Role, t["role"]),
                text=t["text"],
                name=t["name"],
                token_ids=None if t["token_ids"] is None else tuple(t["token_ids"]),
            )
            for t in data["turns"]
        )
        rest = {k: data[k] for k in ("name", "model", "answer", "reference", "success")}
        return cls(
            turns=turns,
            rendering=cast(Rendering, data["rendering"]),
            source=data["source"],
            extra=dict(data["extra"]),
            line=data.get("line", 0),
            **rest,
        )


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that has no response yet: a base trace will be sampled for it.

    Attributes:
        turns: What is said before the response.
        name: How the user calls it.
        reference: The correct answer; None when unknown.
        rendering: As for `Trace`.
        source: As for `Trace`.
        extra: As for `Trace`.
    """

    turns: tuple[Turn, ...]
    name: str
    reference: str | None = None
    rendering: Rendering = "chat"
    source: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def answered(
        self, text: str, token_ids: Sequence[int], model: str, answer: str | None
    ) -> Trace:
        """The trace that a response makes of it."""
        return Trace(
            turns=(*self.turns, Turn("assistant", text, token_ids=tuple(token_ids))),
            name=self.name,
            model=model,
            answer=answer,
            reference=self.reference,
            rendering=self.rendering,
            source=self.source,
            extra=self.extra,
        )


@dataclass(frozen=True, slots=True)
class TokenizedTrace:
    """A trace with the exact tokens of one model.

    Attributes:
        trace: The text.
        prompt_ids: Tokens of the rendered prompt, generation prompt included.
        response_ids: Tokens of the response: the generated ids where the trace has them.
        starts: For each response token, the character of `trace.response` at which it starts;
            non-decreasing, same length as `response_ids`.
    """

    trace: Trace
    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    starts: tuple[int, ...]

    def token_at(self, char: int) -> int:
        """Index of the first response token that starts at or after a character.

        A token that straddles `char` belongs to what comes before it (DESIGN 4.2), so a prefix
        cut here never splits a token.
        """
        return bisect_left(self.starts, char)


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that can be credited: a piece of a trace.

    Attributes:
        kind: `sentence`, `span` or `step`.
        index: Position among the units of this kind and trace, from 0.
        start: First character, in `trace.response` for sentences.
        end: One past the last character.
        token_start: First response token of the unit.
        token_end: One past its last token; equals the next unit's `token_start`.
        text: The characters `[start, end)`, leading whitespace included.
        role: What the unit is known to do (a planted role, a published tag), if known.
    """

    kind: UnitKind
    index: int
    start: int
    end: int
    token_start: int
    token_end: int
    text: str
    role: str | None = None


def tokenized_units(
    tokens: TokenizedTrace,
    spans: Sequence[tuple[int, int]],
    kind: UnitKind = "sentence",
    roles: Sequence[str | None] | None = None,
) -> list[Unit]:
    """Place character spans of the response on its tokens.

    Args:
        tokens: The tokenised trace.
        spans: Half-open character ranges, in order, tiling some stretch of the response.
        kind: The units' kind.
        roles: One role a span, if known.

    Returns:
        One unit a span, in order. A unit whose characters all lie inside one token of its
        predecessor has `token_start == token_end`: it cannot be resampled on its own.
    """
    text = tokens.trace.response
    cuts = [tokens.token_at(start) for start, _ in spans]
    cuts.append(tokens.token_at(spans[-1][1]) if spans else 0)
    return [
        Unit(
            kind=kind,
            index=i,
            start=start,
            end=end,
            token_start=cuts[i],
            token_end=cuts[i + 1],
            text=text[start:end],
            role=None if roles is None else roles[i],
        )
        for i, (start, end) in enumerate(spans)
    ]
