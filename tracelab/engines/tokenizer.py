"""The model's tokenizer: prompts rendered by its own chat template, traces placed on its tokens.

The exact token prefix is what a rollout continues, so nothing here may lose or move a character:
token starts are derived from the ids themselves, never from re-tokenised pieces of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tracelab.core.errors import ModelLoadError, PlanError, one_line
from tracelab.core.messages import as_message
from tracelab.core.outside import OutsideError, decode
from tracelab.core.trace import Rendering, TokenizedTrace, Trace, Turn
from tracelab.engines.models import refuse_code
from tracelab.studies.shown import refuse_left_out
from tracelab.text.tags import opened_by

_PLAIN_CLASS = "PreTrainedTokenizerFast"
_WINDOW = 32
_NO_TEMPLATE = (
    'the model\'s tokenizer has no chat template; set `rendering = "raw"` in the config to use '
    "prompts as they stand"
)
_UNFINISHED = "\ufffd"
"""What a decoder writes for the first bytes of a character that is not complete yet."""


class HFTokenizer:
    """A tokenizer of the transformers library, fast or slow."""

    def __init__(
        self,
        path: str,
        *,
        trust_code: bool = False,
        template_options: Mapping[str, Any] | None = None,
    ) -> None:
        """Load it.

        Args:
            path: Directory or hub id.
            trust_code: Whether Python code that comes with it may run.
            template_options: What its chat template is told besides the messages
                (`enable_thinking`).

        Raises:
            ModelLoadError: There is none, or it is broken.
        """
        try:
            self._tok: Any = _tokenizer_class(path).from_pretrained(
                path, trust_remote_code=trust_code
            )
        except Exception as e:  # the library raises whatever its parsers raise
            refuse_code(e, path)
            raise ModelLoadError(
                f"model {path!r}: its tokenizer cannot be loaded "
                f"({type(e).__name__}: {one_line(e, 200)})"
            ) from e
        # Without its files the library makes an empty one, in which every text is no tokens.
        if not self._tok("a", add_special_tokens=False)["input_ids"]:
            raise ModelLoadError(f"model {path!r}: the directory has no tokenizer files")
        self._path = path
        self._options = dict(template_options or {})

    @cached_property
    def vocabulary(self) -> int:
        """See `Tokenizer.vocabulary`: a model's output is often padded beyond its tokens."""
        try:
            config = decode((Path(self._path) / "config.json").read_bytes())
            nested = config.get("text_config", {}).get("vocab_size", 0)
            size = max(int(config.get("vocab_size", 0)), int(nested))
        except (OSError, OutsideError, ValueError, AttributeError, TypeError):
            size = 0  # a hub id, or a folder that has a tokenizer and no model
        return max(size, max(self._tok.get_vocab().values(), default=-1) + 1)

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat` rendering is possible."""
        return bool(self._tok.chat_template)

    def render(self, turns: Sequence[Turn], rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a prompt; see `Tokenizer.render`.

        Raises:
            PlanError: The template leaves something of it out, or refuses it.
        """
        return self._encode_prompt(self._prompt_text(turns, rendering), rendering)

    def tokenize(self, trace: Trace) -> TokenizedTrace:
        """Exact tokens of a trace.

        The generated ids are used where the trace has them and they spell its text; otherwise
        the text is tokenised. Where both the template and the response open the reasoning with
        `<think>`, the prompt's is dropped so that the tag stands once.
        """
        text = self._prompt_text(trace.prompt, trace.rendering)
        if tag := opened_by(text, trace.response):
            text = text.rstrip().removesuffix(tag)
        ids, starts = self.place_response(trace.response, trace.turns[-1].token_ids)
        prompt_ids = self._encode_prompt(text, trace.rendering)
        return TokenizedTrace(trace, prompt_ids, ids, starts)

    def place_response(
        self, text: str, known: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a response, and the character at which each starts; `known` if they spell it.

        Raises:
            PlanError: The tokens cannot be placed on the text.
        """
        if known is not None and self.decode(known) == text:
            return tuple(known), tuple(self._starts(known, len(text)))
        ids, starts = self._encode(text)
        return tuple(ids), tuple(starts)

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A prompt as text; messages as the chat template takes them, tool calls included.

        Args:
            messages: With `role`, `content` and whatever else the template reads.
            rendering: `raw` joins their contents.
            ask: End with the generation prompt.
            tools: Definitions of tools that the model is offered, `{"type", "function"}` each.

        Raises:
            PlanError: There is no template, or it refuses the messages.
        """
        if rendering == "raw":
            return "".join(m["content"] for m in messages)
        if not self.has_chat_template:
            raise PlanError(_NO_TEMPLATE)
        try:
            return str(
                self._tok.apply_chat_template(
                    list(messages),
                    tools=list(tools) or None,
                    add_generation_prompt=ask,
                    tokenize=False,
                    **self._options,
                )
            )
        except Exception as e:  # a template is a program of the model's author
            raise PlanError(f"the chat template refuses these messages ({one_line(e, 200)})") from e

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a rendered prompt."""
        return self._encode_prompt(text, rendering)

    def place_prompt(
        self, text: str, rendering: Rendering
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a rendered prompt, and the character at which each starts.

        Raises:
            PlanError: The tokenizer gives no offsets, and its tokens do not spell the text.
        """
        special = rendering == "raw"
        if self._tok.is_fast:
            enc = self._tok(text, add_special_tokens=special, return_offsets_mapping=True)
            twice = self._opened_twice(enc["input_ids"], special)
            starts: list[int] = []
            end = 0
            for start, stop in enc["offset_mapping"][twice:]:
                starts.append(max(min(start, end), starts[-1] if starts else 0))
                end = max(end, stop)
            return tuple(enc["input_ids"][twice:]), tuple(starts)
        ids = self._encode_prompt(text, rendering)

        def spell(some: Sequence[int]) -> str:
            return str(self._tok.decode(list(some), clean_up_tokenization_spaces=False))

        if not spell(ids).endswith(text):
            raise PlanError(
                "the model's tokenizer gives no character offsets, and its tokens do not spell "
                "the prompt, so spans of the context cannot be placed on tokens"
            )
        extra = len(spell(ids)) - len(text)  # a token that opens every text
        found = self._starts(ids, len(text) + extra, spell)
        return ids, tuple(max(0, s - extra) for s in found)

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a text on its own, no special tokens added."""
        return tuple(self._encode(text)[0])

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, special tokens removed."""
        text = self._tok.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    def _prompt_text(self, turns: Sequence[Turn], rendering: Rendering) -> str:
        messages = [as_message(t) for t in turns]
        tools = [tool for m in messages for tool in m.pop("tools", ())]
        refuse_left_out(
            messages, lambda some, ask: self.chat_text(some, rendering, ask=ask, tools=tools)
        )
        return self.chat_text(messages, rendering, tools=tools)

    def _encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        # A rendered chat already spells its special tokens.
        special = rendering == "raw"
        ids = self._tok(text, add_special_tokens=special)["input_ids"]
        return tuple(ids[self._opened_twice(ids, special) :])

    def _opened_twice(self, ids: Sequence[int], special: bool) -> int:
        """1 where the text spells the token that opens every text, which was then added again."""
        bos = self._tok.bos_token_id
        return int(special and bos is not None and list(ids[:2]) == [bos, bos])

    def _encode(self, text: str) -> tuple[list[int], list[int]]:
        """Tokens of a text, and the character at which each starts."""
        fast = bool(self._tok.is_fast)
        enc = self._tok(text, add_special_tokens=False, return_offsets_mapping=fast)
        ids = list(enc["input_ids"])
        if not fast:
            return ids, self._starts(ids, len(text))
        starts, end = [], 0
        for start, stop in enc["offset_mapping"]:
            # Some tokenizers leave a token's leading space out of its range; it is part of it.
            starts.append(min(start, end))
            end = max(end, stop)
        return ids, starts

    def _starts(
        self, ids: Sequence[int], length: int, decode: Callable[[Sequence[int]], str] | None = None
    ) -> list[int]:
        """Character at which each token of generated text starts, by decoding short windows.

        Each window begins with a token whose own length is subtracted again, because some
        tokenizers drop the leading space of whatever they decode first.

        Raises:
            PlanError: The windows do not add up to the text.
        """
        decode = decode or self.decode
        ends: list[int] = []
        base, before, opening = 0, 0, 0
        for k in range(1, len(ids) + 1):
            piece = decode(ids[base:k])
            ends.append(before + len(piece.rstrip(_UNFINISHED)) - opening)
            if k - base >= _WINDOW and not piece.endswith(_UNFINISHED):
                first = decode(ids[k - 1 : k])
                if not first.endswith(_UNFINISHED):
                    base, before, opening = k - 1, ends[-1], len(first)
        if ends and ends[-1] != length:
            raise PlanError("the generated tokens cannot be placed on their text")
        starts = [0, *ends[:-1]] if ends else []
        # A prefix cut inside a character of several bytes may decode to more than it becomes.
        for k in range(len(starts) - 2, -1, -1):
            starts[k] = min(starts[k], starts[k + 1])
        return starts


def _tokenizer_class(path: str) -> Any:
    """The class that loads a model's tokenizer.

    A directory that names the library's plain fast class gets just that: `AutoTokenizer` would
    load the same, after importing torch and every model for many seconds.
    """
    try:
        config = decode((Path(path) / "tokenizer_config.json").read_bytes())
        plain = (
            config["tokenizer_class"] == _PLAIN_CLASS and (Path(path) / "tokenizer.json").exists()
        )
    except (OSError, ValueError, KeyError, TypeError):
        plain = False
    if plain:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer
