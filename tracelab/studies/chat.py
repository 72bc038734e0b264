"""Messages as a model reads and writes them, by its chat template: for every study. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from tracelab.core.errors import PlanError
from tracelab.core.hashing import content_hash
from tracelab.core.seam import Message, Tokenizer
from tracelab.core.trace import Rendering
from tracelab.studies.shown import Render, appears, left_out, parts_of, refuse_left_out, told
from tracelab.text.tags import with_reasoning

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
        self._apart: bool = getattr(tokenizer, "reasoning_apart", False)
        self._rendering: Rendering = rendering
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._shown: set[frozenset[tuple[str, ...]]] = set()

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

    def refuse_left_out(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> None:
        """Refuse messages that the template does not show whole.

        Raises:
            PlanError: It leaves something out, or refuses them; the sentence says what.
        """
        refuse_left_out(messages, self._render(tools))

    def refuse_new_left_out(
        self, messages: Sequence[Message], tools: Sequence[Message] = ()
    ) -> None:
        """The same, for chats of which there are many; those of kinds seen before are passed.

        Raises:
            PlanError: See `refuse_left_out`.
        """
        kind = frozenset((m["role"], *sorted(k for k, v in m.items() if v)) for m in messages)
        if kind not in self._shown:
            self.refuse_left_out(messages, tools)
            self._shown.add(kind)

    def _render(self, tools: Sequence[Message]) -> Render:
        return lambda some, ask: self._tok.chat_text(some, self._rendering, ask=ask, tools=tools)

    def spell(
        self, messages: Sequence[Message], message: Message, tools: Sequence[Message] = ()
    ) -> str:
        """What follows the generation prompt when the model writes a message.

        Where reasoning stands beside what is written, and is not part of it, it is left out.

        Raises:
            PlanError: The template does not render it as a continuation of the prompt, or leaves
                a part of it out.
        """
        if self._apart:
            message = {k: v for k, v in message.items() if k != "reasoning_content"}
        prompt = self.text(messages, tools)
        tail = self._tail(messages)
        lost: str | None = None
        for form in _forms(message):
            whole = self._tok.chat_text([*messages, form], self._rendering, ask=False, tools=tools)
            if not (whole.startswith(prompt) and whole.endswith(tail)):
                continue
            text = whole[len(prompt) : len(whole) - len(tail)]
            if (why := self._lost([*messages, form], text, tools)) is None:
                return text
            lost = lost or why
        if lost is not None:
            raise PlanError(lost)
        opened = prompt.rstrip().rpartition("\n")[2]
        raise PlanError(
            "what was written is no continuation of its prompt under this model's chat template, "
            f"which ends in {opened[-40:]!r}: the log lacks what the model wrote first, or is of "
            "another model"
        )

    def _lost(self, messages: Sequence[Message], text: str, tools: Sequence[Message]) -> str | None:
        """What the last of the messages says that is not in its text, as a sentence."""
        if all(appears(p, text) for p in parts_of(messages[-1:])):
            return None
        render, last = self._render(tools), len(messages) - 1
        hidden = left_out(messages, lambda some, _: render(some, False))
        mine = [p for p in hidden if p.message == last]
        return told(mine, messages) if mine else None

    def inlined(self, messages: Sequence[Message]) -> list[Message]:
        """Messages with their reasoning in the text, where the template takes it no other way.

        Messages whose reasoning does not stand beside the text are the same objects.
        """
        beside = self._apart or not any(m.get("reasoning_content") for m in messages)
        if beside or self._knows_reasoning:
            return list(messages)
        return [m if not m.get("reasoning_content") else _inline(m) for m in messages]

    @cached_property
    def _knows_reasoning(self) -> bool:
        said = {"role": "assistant", "content": "a", "reasoning_content": _SENTINEL}
        probe = [{"role": "user", "content": "q"}, said]
        try:
            return _SENTINEL in self._tok.chat_text(probe, self._rendering, ask=False)
        except PlanError:
            return True  # it is refused, or shown, as it is

    def words(
        self, messages: Sequence[Message], message: Message, tools: Sequence[Message] = ()
    ) -> str:
        """A message as the template writes it, without what opens and ends a turn.

        For messages of other models, which need be no continuation of this one's prompt: where its
        template opens a reasoning, say, that the log does not have.

        Raises:
            PlanError: The template refuses it, or leaves a part of it out.
        """
        spoken = {"role": "assistant", "content": _SENTINEL}
        probe = self._tok.chat_text([*messages, spoken], self._rendering, ask=False, tools=tools)
        opening, _, tail = probe.rpartition(_SENTINEL)
        [form] = self.inlined([message])
        whole = self._tok.chat_text([*messages, form], self._rendering, ask=False, tools=tools)
        if not (whole.startswith(opening) and whole.endswith(tail)):
            raise PlanError("the chat template does not render a step as a message of its own")
        text = whole[len(opening) : len(whole) - len(tail)]
        if (why := self._lost([*messages, form], text, tools)) is not None:
            raise PlanError(why)
        return text

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
    if message.get("reasoning_content"):
        yield _inline(message)


def _inline(message: Message) -> Message:
    content = with_reasoning(str(message["reasoning_content"]), str(message["content"]))
    return {**{k: v for k, v in message.items() if k != "reasoning_content"}, "content": content}
