"""What tracelab explains: traces, their units, and their tokens.

Pure: no I/O, no tokenizer, no model. A `Trace` is text and provenance; `TokenizedTrace` adds the
exact token ids that a model was, or would be, given. Character ranges and token ranges are
half-open. Round trip: `Trace.from_json(trace.to_json()) == trace`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, cast

from tracelab.core.episode import Episode
from tracelab.core.hashing import content_hash
from tracelab.core.unit import Unit, UnitKind

Role = Literal["system", "user", "assistant", "tool"]
Rendering = Literal["chat", "raw"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message.

    Attributes:
        role: Who speaks.
        text: Its exact text.
        name: The speaker's name, where the source gives one.
        token_ids: The tokens it was generated with, where known.
        token_logprobs: Their log-probabilities under the sampling that wrote them, nats, where
            known.
        fields: What else the message has, as chat templates take it (`tool_calls`,
            `tool_call_id`, ...), JSON values.
    """

    role: Role
    text: str
    name: str | None = None
    token_ids: tuple[int, ...] | None = None
    token_logprobs: tuple[float, ...] | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded episode of a model, or of agents; or a prompt that has no response yet.

    Attributes:
        turns: What was said, in order. The last turn is the assistant's response, unless there is
            none yet (`answered`). Of an agent's run: the task, and the transcript.
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
        episode: The run of an agent, step by step, where it is one.
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
    episode: Episode | None = None
    _id: str = field(default="", init=False, repr=False, compare=False)

    @classmethod
    def of_episode(cls, episode: Episode) -> Trace:
        """An agent's run as a trace: the task, and the transcript as the response.

        The transcript is the concatenation of `Episode.step_units`. Its turn is named like the
        run, so that two runs that went alike remain two.
        """
        transcript = "".join(unit.text for unit in episode.step_units())
        return cls(
            turns=(Turn("user", episode.task), Turn("assistant", transcript, episode.name)),
            name=episode.name,
            model=episode.model,
            answer=episode.answer,
            reference=episode.reference,
            success=episode.success,
            source=episode.source,
            line=episode.line,
            episode=episode,
        )

    @property
    def trace_id(self) -> str:
        """Content hash (16 hex characters) of the turns, the rendering and the model."""
        if not self._id:
            turns = [
                [t.role, t.text, t.name, *([dict(t.fields)] if t.fields else [])]
                for t in self.turns
            ]
            found = content_hash([turns, self.rendering, self.model])
            object.__setattr__(self, "_id", found)  # of what is frozen; asked for many times
        return self._id

    @property
    def outcome_known(self) -> bool:
        """Whether the source says how it went: success or not, or a reward."""
        scored = self.episode is not None and self.episode.reward is not None
        return self.success is not None or scored

    @property
    def answered(self) -> bool:
        """Whether there is a response: the model is to write one first where there is none."""
        return bool(self.turns) and self.turns[-1].role == "assistant"

    @property
    def prompt(self) -> tuple[Turn, ...]:
        """The turns before the response."""
        return self.turns[:-1] if self.answered else self.turns

    @property
    def response(self) -> str:
        """The text of the last turn: what is being explained; empty where it is not written yet."""
        return self.turns[-1].text if self.answered else ""

    def respond(
        self,
        text: str,
        *,
        model: str,
        token_ids: Sequence[int] | None = None,
        token_logprobs: Sequence[float] | None = None,
    ) -> Trace:
        """The trace that a response makes of a prompt."""
        turn = Turn(
            "assistant",
            text,
            token_ids=None if token_ids is None else tuple(token_ids),
            token_logprobs=None if token_logprobs is None else tuple(token_logprobs),
        )
        return replace(self, turns=(*self.prompt, turn), model=model)

    def to_json(self) -> dict[str, Any]:
        """Return a JSON-serialisable form; `from_json` inverts it."""
        return {
            "turns": [
                {
                    "role": t.role,
                    "text": t.text,
                    "name": t.name,
                    "token_ids": None if t.token_ids is None else list(t.token_ids),
                    **(
                        {}
                        if t.token_logprobs is None
                        else {"token_logprobs": list(t.token_logprobs)}
                    ),
                    **({"fields": dict(t.fields)} if t.fields else {}),
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
            **({} if self.episode is None else {"episode": self.episode.to_json()}),
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
                token_logprobs=tuple(t["token_logprobs"]) if "token_logprobs" in t else None,
                fields=t.get("fields", {}),
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
            episode=Episode.from_json(data["episode"]) if "episode" in data else None,
            **rest,
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
