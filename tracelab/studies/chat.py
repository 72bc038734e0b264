"""Messages as a model reads and writes them, by its chat template: for every study. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracelab.core.errors import PlanError
from tracelab.core.hashing import content_hash
from tracelab.core.seam import Message, Tokenizer
from tracelab.core.trace import Rendering

_SENTINEL = "\u2983end"
_MOST_KEPT = 50_000


class Chat:
    """Messages as tokens, and back: what a model is given, and what it writes."""

    def __init__(self, tokenizer: Tokenizer, rendering: Rendering = "chat") -> None:
        """Speak one model's template.

        Args:
            tokenizer: The model's.
            rendering: `raw` joins the texts of messages.
        """
        self._tok = tokenizer
        self._rendering: Rendering = rendering
        self._prompts: dict[str, tuple[int, ...]] = {}

    def text(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> str:
        """A chat that the model is to continue, as text.

        Raises:
            PlanError: The template refuses the messages.
        """
        return self._tok.chat_text(messages, self._rendering, tools=tools)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> tuple[int, ...]:
        """Tokens of a chat that the model is to continue, when it is offered tools.

        Raises:
            PlanError: The template refuses the messages.
        """
        key = content_hash([[dict(m) for m in messages], list(tools)])
        if key not in self._prompts:
            if len(self._prompts) > _MOST_KEPT:
                self._prompts.clear()
            text = self.text(messages, tools)
            self._prompts[key] = self._tok.encode_prompt(text, self._rendering)
        return self._prompts[key]

    def spell(
        self, messages: Sequence[Message], message: Message, tools: Sequence[Message] = ()
    ) -> str:
        """What follows the generation prompt when the model writes a message.

        Raises:
            PlanError: The template does not render it as a continuation of the prompt.
        """
        prompt = self.text(messages, tools)
        tail = self._tail(messages)
        thought, spelled = str(message.get("reasoning_content") or "").strip(), list[str]()
        for form in _forms(message):
            whole = self._tok.chat_text([*messages, form], self._rendering, ask=False, tools=tools)
            if whole.startswith(prompt) and whole.endswith(tail):
                spelled.append(whole[len(prompt) : len(whole) - len(tail)])
        if spelled:
            return next((text for text in spelled if thought in text), spelled[0])
        opened = prompt.rstrip().rpartition("\n")[2]
        raise PlanError(
            "a step is no continuation of its prompt under this model's chat template, which ends "
            f"in {opened[-40:]!r}: the log lacks what the model wrote first, or is of another model"
        )

    def words(
        self, messages: Sequence[Message], message: Message, tools: Sequence[Message] = ()
    ) -> str:
        """A message as the template writes it, without what opens and ends a turn.

        For messages of other models, which need be no continuation of this one's prompt: where its
        template opens a reasoning, say, that the log does not have.

        Raises:
            PlanError: The template refuses it, or says nothing of it.
        """
        spoken = {"role": "assistant", "content": _SENTINEL}
        probe = self._tok.chat_text([*messages, spoken], self._rendering, ask=False, tools=tools)
        opening, _, tail = probe.rpartition(_SENTINEL)
        whole = self._tok.chat_text([*messages, message], self._rendering, ask=False, tools=tools)
        if not (whole.startswith(opening) and whole.endswith(tail)):
            raise PlanError("the chat template does not render a step as a message of its own")
        return whole[len(opening) : len(whole) - len(tail)]

    def written(self, messages: Sequence[Message], action: str) -> tuple[int, ...]:
        """Tokens of an action, with the mark that ends a turn."""
        return (*self._tok.encode_text(action), *self._tok.encode_text(self._tail(messages))[:1])

    def _tail(self, messages: Sequence[Message]) -> str:
        probe = [*messages[:1], {"role": "assistant", "content": _SENTINEL}]
        return self._tok.chat_text(probe, self._rendering, ask=False).rpartition(_SENTINEL)[2]


def _forms(message: Message) -> Iterator[Message]:
    """A message as it is, and with its reasoning in front, as models write it.

    Some templates know `reasoning_content`; others take a text that holds it.
    """
    yield message
    if thought := message.get("reasoning_content"):
        content = f"<think>\n{thought}\n</think>\n\n{message['content']}"
        yield {**{k: v for k, v in message.items() if k != "reasoning_content"}, "content": content}
