"""Prompts of a chat endpoint as token ids, although nobody knows its tokens.

An endpoint takes messages and tools, so a prompt here spells exactly these, in tokens of our own:
up to four ASCII characters or one other character each, which is also about as many as real
tokenizers make. So a prompt has a key, a length and a place for the response to begin, as with
every engine; equal requests are equal prompts, and the engine reads the request back from the ids
(`request_in`). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tracelab.core.errors import PlanError
from tracelab.core.messages import as_message
from tracelab.core.seam import Message
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn
from tracelab.engines.chat.request import OPEN, THINK, THOUGHT, opened, text_of

_PIECE = re.compile(r"[\x00-\x20\x7f]*[\x21-\x7e]+|[\x80-\U0010ffff]|[\x00-\x20\x7f]+")
_SIZE_AT, _CHARACTER = 28, 5
"""Bits 28 to 30 say what an id is: 1 to 4 ASCII characters, or one other."""
_START = 6 << _SIZE_AT
"""Ends every prompt: what follows it is the response."""
_THINKS = _START + 1
"""After it: the response goes on within reasoning, which the endpoint's template opens."""
_VOCABULARY = 7 << _SIZE_AT


class RequestTokenizer:
    """Speaks of requests as `Tokenizer` speaks of texts. Its chat template shows everything."""

    reasoning_apart = True
    """Reasoning stands beside what the model writes, and is no part of an action."""

    @property
    def vocabulary(self) -> int:
        """See `Tokenizer.vocabulary`."""
        return _VOCABULARY

    def render(self, turns: Sequence[Turn], rendering: Rendering) -> tuple[int, ...]:
        """See `Tokenizer.render`.

        Raises:
            PlanError: It is no chat.
        """
        messages = [as_message(t) for t in turns]
        tools = [tool for m in messages for tool in m.pop("tools", ())]
        return self.encode_prompt(self.chat_text(messages, rendering, tools=tools), rendering)

    def tokenize(self, trace: Trace) -> TokenizedTrace:
        """Tokens of a trace.

        A response that reasons between marks goes on from within them: whether it or the template
        opened them is not known, and does not matter.
        """
        prompt, said = self.render(trace.prompt, trace.rendering), trace.response
        begins = opened(said)
        ids, starts = self.place_response(begins, None)
        skipped = len(said) - len(begins)
        if skipped or THOUGHT in said:
            prompt = (*prompt, _THINKS)
        placed = tuple(0 if k == 0 else s + skipped for k, s in enumerate(starts))
        return TokenizedTrace(trace, prompt, ids, placed)

    def chat_text(
        self,
        messages: Sequence[Message],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Message] = (),
    ) -> str:
        """See `Tokenizer.chat_text`.

        Raises:
            PlanError: It is no chat.
        """
        if rendering == "raw":
            raise PlanError("a chat endpoint takes messages, and this prompt is raw text")
        return text_of(messages, tools, ask=ask)

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """See `Tokenizer.encode_prompt`."""
        return self.place_prompt(text, rendering)[0]

    def place_prompt(
        self, text: str, rendering: Rendering
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See `Tokenizer.place_prompt`; the mark where the response starts stands at the end."""
        ids, starts = self.place_response(text.removesuffix(OPEN), None)
        return (*ids, _START), (*starts, len(text))

    def place_response(
        self, text: str, known: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """See `Tokenizer.place_response`; a text has one spelling, so those known say no more."""
        placed = list(_split(text))
        return tuple(i for i, _ in placed), tuple(s for _, s in placed)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """See `Tokenizer.encode_text`."""
        return tuple(i for i, _ in _split(text))

    def decode(self, ids: Sequence[int]) -> str:
        """See `Tokenizer.decode`."""
        return "".join(map(_spell, ids))


def request_in(ids: Sequence[int]) -> tuple[str, str, bool] | None:
    """The text of a request, the beginning of the response, and whether it goes on in reasoning.

    None where ids are no prompt of `RequestTokenizer`.
    """
    if _START not in ids:
        return None
    at = len(ids) - 1 - ids[::-1].index(_START)
    rest = ids[at + 1 :]
    text = "".join(map(_spell, ids[:at]))
    return text, "".join(map(_spell, rest)), _THINKS in rest


def continued(begun: str, thinks: bool) -> str:
    """What an assistant's message is made to begin with."""
    return f"{THINK}\n{begun}" if thinks and begun else begun


def _split(text: str) -> Iterator[tuple[int, int]]:
    """Tokens, and where each starts; words begin new ones, so sentences do."""
    for piece in _PIECE.finditer(text):
        word, at = piece.group(), piece.start()
        if word[0] >= "\x80":
            yield _CHARACTER << _SIZE_AT | ord(word), at
            continue
        for k in range(0, len(word), 4):
            part = word[k : k + 4]
            packed = 0
            for c in part:
                packed = packed << 7 | ord(c)
            yield len(part) << _SIZE_AT | packed, at + k


def _spell(token: int) -> str:
    kind, rest = token >> _SIZE_AT, token & ((1 << _SIZE_AT) - 1)
    if kind == _CHARACTER:
        return chr(rest)
    if kind > _CHARACTER:
        return ""
    return "".join(chr(rest >> 7 * k & 0x7F) for k in range(kind - 1, -1, -1))
