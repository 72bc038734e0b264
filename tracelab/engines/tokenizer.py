"""The model's tokenizer: prompts rendered by its own chat template, traces placed on its tokens.

The exact token prefix is what a rollout continues, so nothing here may lose or move a character:
token starts are derived from the ids themselves, never from re-tokenised pieces of text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tracelab.errors import ModelLoadError, PlanError
from tracelab.trace import Rendering, TokenizedTrace, Trace, Turn

OPEN_THINK = "<think>"
_WINDOW = 32


class HFTokenizer:
    """A tokenizer of the transformers library, fast or slow."""

    def __init__(self, path: str) -> None:
        """Load it.

        Args:
            path: Directory or hub id.

        Raises:
            ModelLoadError: There is none, or it is broken.
        """
        from transformers import AutoTokenizer

        try:
            self._tok: Any = AutoTokenizer.from_pretrained(path)
        except Exception as e:  # the library raises whatever its parsers raise
            raise ModelLoadError(
                f"model {path!r}: its tokenizer cannot be loaded ({type(e).__name__}: {_line(e)})"
            ) from e

    @property
    def has_chat_template(self) -> bool:
        """Whether `chat` rendering is possible."""
        return bool(self._tok.chat_template)

    def render(self, turns: Sequence[Turn], rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a prompt; see `Tokenizer.render`."""
        return self._encode_prompt(self._prompt_text(turns, rendering), rendering)

    def tokenize(self, trace: Trace) -> TokenizedTrace:
        """Exact tokens of a trace.

        The generated ids are used where the trace has them and they spell its text; otherwise
        the text is tokenised. Where both the template and the response open the reasoning with
        `<think>`, the prompt's is dropped so that the tag stands once.
        """
        text = self._prompt_text(trace.prompt, trace.rendering)
        bare = text.rstrip()
        if bare.endswith(OPEN_THINK) and trace.response.lstrip().startswith(OPEN_THINK):
            text = bare[: -len(OPEN_THINK)]
        known = trace.turns[-1].token_ids
        if known is not None and self.decode(known) == trace.response:
            ids, starts = list(known), self._starts(known, trace.response)
        else:
            enc = self._tok(trace.response, add_special_tokens=False)
            ids = list(enc["input_ids"])
            starts = self._starts(ids, trace.response)
        prompt_ids = self._encode_prompt(text, trace.rendering)
        return TokenizedTrace(trace, prompt_ids, tuple(ids), tuple(starts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of generated tokens, special tokens removed."""
        text = self._tok.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return str(text)

    def _prompt_text(self, turns: Sequence[Turn], rendering: Rendering) -> str:
        if rendering == "raw":
            return "".join(t.text for t in turns)
        if not self.has_chat_template:
            raise PlanError(
                'the model\'s tokenizer has no chat template; set `rendering = "raw"` in the '
                "config to use prompts as they stand"
            )
        messages = [
            {"role": t.role, "content": t.text, **({"name": t.name} if t.name else {})}
            for t in turns
        ]
        try:
            return str(
                self._tok.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
            )
        except Exception as e:  # a template is a program of the model's author
            raise PlanError(f"the chat template refuses these messages ({_line(e)})") from e

    def _encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        # A rendered chat already spells its special tokens.
        return tuple(self._tok(text, add_special_tokens=rendering == "raw")["input_ids"])

    def _starts(self, ids: Sequence[int], text: str) -> list[int]:
        """Character at which each token starts, by decoding prefixes."""
        starts = self._starts_windowed(ids)
        if starts is None or starts[-1] != len(text):
            # Decoding in pieces is not faithful for this tokenizer: pay for whole prefixes.
            starts = [self._complete(self.decode(ids[:k])) for k in range(len(ids) + 1)]
        # A prefix cut inside a multi-byte character may decode to more than it will become.
        for k in range(len(starts) - 2, -1, -1):
            starts[k] = min(starts[k], starts[k + 1])
        return starts[:-1]

    def _starts_windowed(self, ids: Sequence[int]) -> list[int] | None:
        starts, base, base_char = [0], 0, 0
        for k in range(1, len(ids) + 1):
            piece = self.decode(ids[base:k])
            starts.append(base_char + self._complete(piece))
            if k - base >= _WINDOW and not piece.endswith("�"):
                base, base_char = k, base_char + len(piece)
        return starts

    @staticmethod
    def _complete(piece: str) -> int:
        """Length of decoded text without the stand-ins of an unfinished character."""
        return len(piece.rstrip("�"))


def _line(e: BaseException) -> str:
    return " ".join(str(e).split())[:200] or type(e).__name__
