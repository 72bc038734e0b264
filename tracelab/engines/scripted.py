"""A small random text process whose every probability is known in closed form.

For tests of logic, the user's and ours: it stands in for a model, never for vLLM in a real run.
A `Script` is a chain of slots; each slot writes one of a few sentences, and what may be written
depends on a hidden state that earlier sentences set. The last slot answers. Because a prefix of
text identifies which sentences it may still become, V, answer distributions, ΔV and sentence
probabilities are exact at *any* token, not only at sentence ends.

Tokens are words with their leading whitespace; text that no script word matches is spelled in
bytes. Exact arithmetic: `Script`; the engine only samples from it.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import FinishReason, Item, ModelRef, Observation
from tracelab.core.seam import Message
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn
from tracelab.engines.base import Counters, Engine, EngineSpec, failed, overlong
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES

_WORD = re.compile(r"\s*\S+|\s+$")
_BYTES = 256
_EOS = _BYTES
_START = _BYTES + 1
"""Ends every rendered prompt: what follows is the response."""
_FIRST_WORD = _BYTES + 2
_CONTEXT = 4096
"""Tokens of the context window, unless the config says less."""


@dataclass(frozen=True, slots=True)
class Line:
    """One way to fill a slot: the sentence, its probability, and the state it leads to."""

    text: str
    p: float
    state: str
    role: str = "filler"


@dataclass(frozen=True)
class Script:
    r"""The process: for each slot, the lines that each hidden state may write.

    Attributes:
        slots: Per slot, a map from state to its lines, whose probabilities sum to 1. The states
            reached after the last slot are the answers; the last slot's lines must spell them in
            `\boxed{...}`.
    """

    slots: tuple[dict[str, tuple[Line, ...]], ...]

    @classmethod
    def planted(cls, filler: int = 2, p_right: float = 0.7, repair: float = 0.25) -> Script:
        """A plan that decides the answer, filler that does not, and a late chance of repair."""
        idle = (
            Line(" This is a small sum.", 0.6, "", "filler"),
            Line(" Let me go on with care.", 0.4, "", "filler"),
        )

        def stay(state: str) -> tuple[Line, ...]:
            return tuple(Line(x.text, x.p, state, x.role) for x in idle)

        plan = (
            Line(" I will add the two prices.", p_right, "right", "plan_right"),
            Line(" I will compare the two prices.", 1 - p_right, "wrong", "plan_wrong"),
        )
        check: dict[str, tuple[Line, ...]] = {
            "right": (Line(" That looks fine.", 1.0, "right", "recheck"),),
            "wrong": (
                Line(" That looks fine.", 1 - repair, "wrong", "recheck"),
                Line(" Wait, I should add them.", repair, "right", "repair"),
            ),
        }
        done: dict[str, tuple[Line, ...]] = {
            "right": (Line(" So the bill is \\boxed{7}.", 1.0, "7", "conclude"),),
            "wrong": (Line(" So the bill is \\boxed{3}.", 1.0, "3", "conclude"),),
        }
        both = {s: stay(s) for s in ("right", "wrong")}
        opening: dict[str, tuple[Line, ...]] = {"": stay("")}
        return cls((*(opening,) * filler, {"": plan}, *(both,) * filler, check, done))

    @classmethod
    def random(cls, rng: np.random.Generator, slots: int = 6, states: int = 3) -> Script:
        """A script with random probabilities; lines of one slot share opening words."""
        names = [f"s{i}" for i in range(states)]
        rows: list[dict[str, tuple[Line, ...]]] = []
        for k in range(slots):
            row = {}
            for at in names if k else [""]:
                p = rng.dirichlet(np.full(states, 0.7))
                row[at] = tuple(
                    Line(f" Step {k} takes way {j}.", float(p[j]), names[j], f"way{j}")
                    for j in range(states)
                )
            rows.append(row)
        rows.append(
            {s: (Line(f" It is \\boxed{{{i}}}.", 1.0, str(i)),) for i, s in enumerate(names)}
        )
        return cls(tuple(rows))

    @cached_property
    def words(self) -> dict[str, int]:
        """Token id of every word a line can write."""
        found = {
            w: None
            for row in self.slots
            for lines in row.values()
            for line in lines
            for w in _WORD.findall(line.text)
        }
        return {w: _FIRST_WORD + i for i, w in enumerate(found)}

    @cached_property
    def spelled(self) -> dict[str, tuple[int, ...]]:
        """Token ids of every line."""
        return {
            line.text: tuple(self.words[w] for w in _WORD.findall(line.text))
            for row in self.slots
            for lines in row.values()
            for line in lines
        }

    def answers_after(self, slot: int, state: str) -> dict[str, float]:
        """Exact answer distribution from a state at the start of a slot."""
        if slot == len(self.slots):
            return {state: 1.0}
        total: dict[str, float] = {}
        for line in self.slots[slot][state]:
            for answer, p in self.answers_after(slot + 1, line.state).items():
                total[answer] = total.get(answer, 0.0) + line.p * p
        return total

    def reachable(self, tokens: Sequence[int]) -> list[tuple[float, int, str, tuple[int, ...]]]:
        """Which places a response prefix can be at, with posterior probabilities.

        Returns:
            `(probability, slot, state after the sentence under way, tokens it still needs)`; an
            empty list when the script cannot write this prefix.
        """
        places = [(1.0, 0, "", ())] if not tokens else self._walk(tokens)
        mass = sum(p for p, *_ in places)
        return [(p / mass, *rest) for p, *rest in places] if mass > 0 else []  # type: ignore[misc]

    def _walk(self, tokens: Sequence[int]) -> list[tuple[float, int, str, tuple[int, ...]]]:
        out: list[tuple[float, int, str, tuple[int, ...]]] = []
        stack: list[tuple[float, int, str, int]] = [(1.0, 0, "", 0)]
        while stack:
            p, slot, state, at = stack.pop()
            if at == len(tokens):
                out.append((p, slot, state, ()))
                continue
            if slot == len(self.slots):
                continue
            for line in self.slots[slot][state]:
                ids, rest = self.spelled[line.text], tokens[at:]
                if tuple(rest[: len(ids)]) == ids:
                    stack.append((p * line.p, slot + 1, line.state, at + len(ids)))
                elif ids[: len(rest)] == tuple(rest):
                    out.append((p * line.p, slot + 1, line.state, ids[len(rest) :]))
        return out

    def answers(self, tokens: Sequence[int]) -> dict[str, float]:
        """Exact answer distribution given the first response tokens."""
        total: dict[str, float] = {}
        for p, slot, state, _ in self.reachable(tokens):
            for answer, q in self.answers_after(slot, state).items():
                total[answer] = total.get(answer, 0.0) + p * q
        return total

    @cached_property
    def _known(self) -> dict[tuple[int, ...], dict[int, float]]:
        return {}

    def next_token(self, tokens: Sequence[int]) -> dict[int, float]:
        """Exact distribution of the next token (end of sequence included); not to be changed."""
        at = tuple(tokens)
        if at not in self._known:
            self._known[at] = self._next_token(at)
        return self._known[at]

    def _next_token(self, tokens: tuple[int, ...]) -> dict[int, float]:
        total: dict[int, float] = {}
        for p, slot, state, rest in self.reachable(tokens):
            if rest:
                total[rest[0]] = total.get(rest[0], 0.0) + p
            elif slot == len(self.slots):
                total[_EOS] = total.get(_EOS, 0.0) + p
            else:
                for line in self.slots[slot][state]:
                    first = self.spelled[line.text][0]
                    total[first] = total.get(first, 0.0) + p * line.p
        return total


class ScriptTokenizer:
    """Words of the script, bytes for everything else; it has no chat template."""

    def __init__(self, script: Script) -> None:
        """Tokenise for one script."""
        self._ids = script.words
        self._texts = {i: w for w, i in script.words.items()}

    @property
    def vocabulary(self) -> int:
        """See `Tokenizer.vocabulary`."""
        return _FIRST_WORD + len(self._ids)

    def render(self, turns: Sequence[Turn], rendering: Rendering) -> tuple[int, ...]:
        """Bytes of the prompt, then the mark where the response starts."""
        return self.encode_prompt("\n".join(t.text for t in turns), rendering)

    def tokenize(self, trace: Trace) -> TokenizedTrace:
        """Exact tokens of a whole trace."""
        ids, starts = self.place_response(trace.response, None)
        prompt = self.render(trace.prompt, trace.rendering)
        return TokenizedTrace(trace, prompt, ids, starts)

    def chat_text(
        self,
        messages: Sequence[Message],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Message] = (),
    ) -> str:
        """Refuse: see `Tokenizer.chat_text`."""
        raise PlanError("the scripted engine has no chat template")

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """See `Tokenizer.encode_prompt`."""
        return self.place_prompt(text, rendering)[0]

    def place_prompt(
        self, text: str, rendering: Rendering
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See `Tokenizer.place_prompt`; the mark where the response starts stands at the end."""
        spelled = [char.encode("utf-8", "replace") for char in text]
        starts = [i for i, raw in enumerate(spelled) for _ in raw]
        return (*b"".join(spelled), _START), (*starts, len(text))

    def place_response(
        self, text: str, known: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See `Tokenizer.place_response`; a text has one spelling, so those known say no more."""
        placed = list(self._split(text))
        return tuple(token for token, _ in placed), tuple(start for _, start in placed)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a text by itself."""
        return self.place_response(text, None)[0]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens."""
        raw = b"".join(bytes([i]) if i < _BYTES else self._texts.get(i, "").encode() for i in ids)
        return raw.decode("utf-8", "replace")

    def _split(self, text: str) -> Iterator[tuple[int, int]]:
        for match in _WORD.finditer(text):
            if (known := self._ids.get(match.group())) is not None:
                yield known, match.start()
                continue
            for offset, char in enumerate(match.group()):
                for byte in char.encode("utf-8", "replace"):
                    yield byte, match.start() + offset


class ScriptedEngine:
    """Samples from a `Script`.

    Options: `script` (a `Script`; default `Script.planted()`), `seconds` (how long an item takes;
    default 0), and three planted faults for tests of the runtime: a prefix containing the token
    `poison` kills the process, one containing `refuse` raises, one containing `sleepy` is never
    answered.
    """

    capabilities = frozenset({"generate", "score", "prefix"})

    def __init__(self, spec: EngineSpec) -> None:
        """Build it; nothing is loaded."""
        self.spec = spec
        self.counters = Counters()
        self.script: Script = spec.options.get("script") or Script.planted()
        self._tokenizer = ScriptTokenizer(self.script)
        self._seconds = float(spec.options.get("seconds", 0.0))
        self._asked = 0

    async def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.generate`."""
        asked, late = self._asked, []
        for item in items:
            if asked != self._asked:
                return
            if self.spec.options.get("sleepy") in item.prefix_ids:
                late.append(item)
                continue
            await asyncio.sleep(self._seconds)
            yield self._guard(item)
        if late:
            await asyncio.Event().wait()

    async def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.score`."""
        async for found in self.generate(items):
            yield found

    def halt(self) -> None:
        """See `Engine.halt`."""
        self._asked += 1

    def close(self) -> None:
        """Nothing to release."""

    def _guard(self, item: Item) -> list[Observation]:
        if too_long := overlong(item, self.spec.context_length):
            return too_long
        if self.spec.options.get("poison") in item.prefix_ids:
            os._exit(17)
        if self.spec.options.get("refuse") in item.prefix_ids:
            return failed(item, "engine", "this item is refused, as the test asked")
        if _START not in item.prefix_ids:
            return failed(item, "engine", "the prefix has no response mark")
        at = len(item.prefix_ids) - item.prefix_ids[::-1].index(_START)
        given = list(item.prefix_ids[at:])
        self.counters.prompt_tokens += len(item.prefix_ids) * item.replicates
        if item.target_ids is not None:
            return [self._score_one(item, given, item.target_ids)]
        return [self._sample(item, given, r) for r in item.replicate_range]

    def _score_one(self, item: Item, given: list[int], target: tuple[int, ...]) -> Observation:
        row = []
        for k, token in enumerate(target):
            p = self.script.next_token([*given, *target[:k]]).get(token, 0.0)
            row.append(float(np.log(p)) if p > 0 else float("-inf"))
        return Observation(
            item.key, item.first_replicate, token_logprobs=tuple(row),
            prefix_tokens=len(item.prefix_ids),
        )  # fmt: skip

    def _sample(self, item: Item, given: list[int], replicate: int) -> Observation:
        s = item.sampling
        assert s is not None
        rng = np.random.default_rng(item.seed_of(replicate))
        tokens: list[int] = []
        logprobs: list[float] = []
        finish: FinishReason = "length"
        limit = min(s.max_tokens, self.spec.context_length - len(item.prefix_ids))
        for _ in range(limit):
            # A prefix the script cannot have written ends at once, without an answer.
            dist = self.script.next_token([*given, *tokens]) or {_EOS: 1.0}
            ids, p = list(dist), np.array(list(dist.values()))
            pick = int(p.argmax()) if s.temperature == 0 else int(rng.choice(len(ids), p=p))
            tokens.append(ids[pick])
            logprobs.append(float(np.log(p[pick])))
            stopped = s.stop and any(w in self._tokenizer.decode(tokens) for w in s.stop)
            if ids[pick] == _EOS or stopped:
                finish = "stop"
                break
        self.counters.generated_tokens += len(tokens)
        text = self._tokenizer.decode(tokens)
        cut = min([text.find(w) for w in s.stop if w in text], default=len(text))
        return Observation(
            key=item.key,
            replicate=replicate,
            token_ids=tuple(tokens),
            text=text[:cut],
            finish_reason=finish,
            token_logprobs=tuple(logprobs) if s.logprobs else None,
            prefix_tokens=len(item.prefix_ids),
        )


@ENGINES.register("scripted", order=40)
class Scripted(EngineKind):
    """A small random text process with known probabilities, for tests."""

    name = "scripted"
    here = local_weights = False

    @classmethod
    def spec_of(cls, model: str, config: EngineConfig) -> EngineSpec:
        """See `EngineKind.spec_of`; there is only one model."""
        ref = ModelRef(name=cls.name, revision="planted-1", dtype="float64")
        options = dict(config.options)
        return EngineSpec(cls.name, cls.name, ref, config.max_model_len or _CONTEXT, options)

    @classmethod
    def tokenizer(cls, spec: EngineSpec) -> ScriptTokenizer:
        """See `EngineKind.tokenizer`."""
        return ScriptTokenizer(Script.planted())

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        return ScriptedEngine(spec)
