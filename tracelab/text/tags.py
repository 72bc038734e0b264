"""Marks that model families put around their reasoning and around their answer.

One table for everybody: segmenter, graders, judges and `cite` agree on where reasoning ends. Pure;
linear in the length of the text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Family:
    """How one family marks reasoning.

    Attributes:
        opens: What begins it.
        closes: What ends it, any of them.
        line: Whether the opener counts only where it starts a line: elsewhere a text about tags
            mentions one. Openers that are special tokens cannot be written by accident.
        shared: Whether what closes it also ends other things, so that it says nothing alone.
    """

    opens: str
    closes: tuple[str, ...]
    line: bool = False
    shared: bool = False


FAMILIES = (
    Family("<think>", ("</think>",), line=True),  # DeepSeek R1, Qwen, QwQ, most others
    Family("<thinking>", ("</thinking>",), line=True),
    Family("<thought>", ("</thought>",), line=True),
    Family("<reasoning>", ("</reasoning>",), line=True),  # Granite prompts, many fine-tunings
    Family("<seed:think>", ("</seed:think>",)),  # Seed-OSS
    Family("[THINK]", ("[/THINK]",), line=True),  # Magistral
    Family("◁think▷", ("◁/think▷",)),  # Kimi
    Family("<|START_THINKING|>", ("<|END_THINKING|>",)),  # Command A
    Family("<|begin_of_thought|>", ("<|end_of_thought|>",)),  # Sky-T1, OpenThoughts
    Family("<|inner_prefix|>", ("<|inner_suffix|>",)),  # Apertus
    Family("<|channel|>analysis<|message|>",
           ("<|end|>", "<|channel|>final<|message|>"), shared=True),  # gpt-oss
)  # fmt: skip
"""Families by their marks. The first whose marks stand in a text is the one it is read by."""

ANSWER = (
    "<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|begin_of_solution|>", "<|end_of_solution|>",
    "<|start|>assistant", "<|channel|>final<|message|>", "<|return|>", "<|END_OF_TURN_TOKEN|>",
)  # fmt: skip
"""Marks around an answer, which are no part of it."""

_ANSWER = re.compile("|".join(map(re.escape, ANSWER)))
_OPENS = re.compile("|".join(re.escape(f.opens) for f in FAMILIES))


@dataclass(frozen=True, slots=True)
class Block:
    """One stretch of reasoning: characters `[start, end)`, marks not included.

    Attributes:
        start: Its first character.
        end: Behind its last one.
        after: Behind the mark that closes it; `end` where none does.
        closed: Whether one does.
    """

    start: int
    end: int
    after: int
    closed: bool


def blocks(text: str) -> list[Block]:
    """The stretches of reasoning of a response, in order.

    The first may lack its opening mark, because chat templates put it into the prompt; one that is
    never closed counts only where the response begins with it (it was cut off there).
    """
    if _MARK.search(text) is None:
        return []
    for family in FAMILIES:
        if found := _blocks(text, family):
            return found
    return []


def _marks(family: Family) -> re.Pattern[str]:
    before = r"^[ \t]*" if family.line else ""
    return re.compile(
        f"(?P<open>{before}{re.escape(family.opens)})|" + "|".join(map(re.escape, family.closes)),
        re.MULTILINE,
    )


_MARKS = {family: _marks(family) for family in FAMILIES}
_MARK = re.compile("|".join(re.escape(m) for f in FAMILIES for m in (f.opens, *f.closes)))


def _blocks(text: str, family: Family) -> list[Block]:
    out: list[Block] = []
    start: int | None = None
    opened = False
    for found in _MARKS[family].finditer(text):
        if found["open"]:
            if start is None:
                start, opened = found.end(), True
        elif start is not None:
            out.append(Block(start, found.start(), found.end(), True))
            start = None
        elif not out and not opened and not family.shared:
            out.append(Block(0, found.start(), found.end(), True))
    if start is not None and (out or not text[: text.find(family.opens)].strip()):
        out.append(Block(start, len(text), len(text), False))
    return out


def reasoning_end(text: str) -> int:
    """Behind the last mark that closes reasoning; 0 where none does."""
    return max((b.after for b in blocks(text) if b.closed), default=0)


def divided(text: str) -> tuple[str, str, str]:
    """A response in three: up to the mark that closes its reasoning, that mark, what follows.

    ("", "", the text) where no mark closes any reasoning.
    """
    closed = [b for b in blocks(text) if b.closed]
    if not closed:
        return "", "", text
    end, after = closed[-1].end, closed[-1].after
    return text[:end], text[end:after], text[after:]


def parted(text: str) -> tuple[str, str]:
    """Like `divided`, without the mark, and without the marks around an answer."""
    thought, _, rest = divided(text)
    return thought, _ANSWER.sub("", rest)


def unopened(thought: str) -> str:
    """Reasoning without the marks that open it."""
    return _OPENS.sub("", thought)


def opener(text: str) -> str:
    """The mark that a response lacks because the chat template wrote it; empty where none is."""
    for family in FAMILIES:
        if found := _blocks(text, family):
            return family.opens if found[0].closed and found[0].start == 0 else ""
    return ""


def opened_by(prompt: str, response: str) -> str:
    """The mark that opens reasoning both at the end of a prompt and at the start of its response.

    Returns:
        It, or "". Blanks around it are not looked at.
    """
    end, start = prompt.rstrip(), response.lstrip()
    both = (f.opens for f in FAMILIES if end.endswith(f.opens) and start.startswith(f.opens))
    return next(both, "")


def with_reasoning(thought: str, text: str) -> str:
    """A response as most reasoning models write it: reasoning in tags, then the rest."""
    return f"<think>\n{thought}\n</think>\n\n{text}"
