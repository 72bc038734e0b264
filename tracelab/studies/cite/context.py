"""What a model was given, as sources that can be taken away one by one.

A `Context` is the messages before a response, with the pieces of them that can be ablated. `ablate`
turns a mask over the sources (True = kept) into the messages of the ablated prompt; the chat
template is then applied to those exactly as at generation, so roles and markers always stay whole.

What a trace says about its own context stands in `Trace.extra`, JSON values; every key is optional,
and a value of another shape is some other source's and is passed over. Characters are of the text
of the turn.

- `documents`: `[[turn, start, end, title], ...]`, the documents in order; a title (else null)
  stands right before its document, a line break between them. What else the turn says is the query.
- `sources`: `[[turn, start, end], ...]`, what is ablated, instead of cutting.
- `roles`: what is known of ranges, `[[turn, start, end, label], ...]`, or of whole messages,
  `{"turn": label}`.
- `target`: what is explained; see `tracelab.studies.cite.targets.parse_targets`.
- `run`, `step`, `agent`, `tools`: of a step of an agent's run: the run's trace, the step, who took
  it, and definitions of the tools that the model was offered.
- `query`, `template`: what is asked of the documents, and the record's own way to put both into
  one message; see `tracelab.studies.cite.cut.templated`.

Pure: no tokenizer, no template, no I/O. Characters are code points of a message's text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tracelab.core.errors import PlanError
from tracelab.core.trace import Turn

Mode = Literal["delete", "placeholder", "resample"]
"""What stands in the place of an ablated source: nothing, a fixed text, or one the model writes."""

PLACEHOLDER = "[...]"


@dataclass(frozen=True, slots=True)
class ContextSource:
    """A piece of the context that can be ablated.

    Attributes:
        message: Index of the message it lies in.
        start: First character of that message's text.
        end: One past the last.
        text: Those characters, leading white space included.
        document: Number of its document, from 0: a document, or a message of a chat.
        paragraph: Number of its paragraph within the document.
        whole: It is the message itself, not only text in it.
        also: Messages that go with it: the results of its tool calls.
        role: What it is known to do (a planted role), if known.
    """

    message: int
    start: int
    end: int
    text: str
    document: int = 0
    paragraph: int = 0
    whole: bool = False
    also: tuple[int, ...] = ()
    role: str | None = None


@dataclass(frozen=True, slots=True)
class Header:
    """Text that is no source but belongs to a document, and goes when all of it is ablated."""

    message: int
    start: int
    end: int
    document: int


@dataclass(frozen=True, slots=True)
class Context:
    """Messages before a response, and their sources in the order of the text.

    Raises:
        PlanError: Two sources overlap, or one lies outside its message.
    """

    messages: tuple[Turn, ...]
    sources: tuple[ContextSource, ...]
    headers: tuple[Header, ...] = ()

    def __post_init__(self) -> None:
        last: tuple[int, int] = (-1, 0)
        taken: dict[int, int] = {}
        for i, s in enumerate(self.sources):
            if not 0 <= s.message < len(self.messages):
                raise PlanError(f"source {i} is in message {s.message}, which does not exist")
            size = len(self.messages[s.message].text)
            if not 0 <= s.start <= s.end <= size:
                raise PlanError(
                    f"source {i} is the characters {s.start} to {s.end} of a text of {size}"
                )
            if (s.message, s.start) < last or any(m in taken for m in (s.message, *s.also)):
                other = next((taken[m] for m in (s.message, *s.also) if m in taken), i - 1)
                raise PlanError(f"sources {other} and {i} overlap; a text can be in one of them")
            last = (s.message, s.end)
            if s.whole:
                taken |= dict.fromkeys((s.message, *s.also), i)


@dataclass(slots=True)
class _Atom:
    """A source or header of a message, and the white space it starts with."""

    start: int
    end: int
    lead: str
    document: int
    paragraph: int | None
    kept: bool
    replacement: str | None = None
    run: int = 0


def ablate(
    context: Context,
    kept: Sequence[bool],
    mode: Mode = "delete",
    *,
    placeholder: str = PLACEHOLDER,
    replacements: Sequence[str] = (),
) -> tuple[Turn, ...]:
    """Messages of the prompt in which the sources that are not kept are gone or replaced.

    A deleted piece takes its leading white space with it, but what separates paragraphs, documents
    and the context from the text before it stays: the first piece that is left of each takes the
    white space that the first piece had. A tool's result that is deleted leaves a placeholder, so
    that its call keeps a result.

    Args:
        context: The whole context.
        kept: One flag a source, True = kept; shape [n].
        mode: See `Mode`.
        placeholder: What stands in the place of a source for `placeholder`.
        replacements: For `resample`: one text a source, leading white space excluded.

    Returns:
        The messages; the context's own when everything is kept.
    """
    if len(kept) != len(context.sources):
        raise ValueError(f"{len(kept)} flags for {len(context.sources)} sources")
    stand_in = [
        None if mode == "delete" else placeholder if mode == "placeholder" else replacements[i]
        for i in range(len(kept))
    ]
    present = {s.document for s, k in zip(context.sources, kept, strict=True) if k}
    dropped: set[int] = set()
    content: dict[int, str] = {}
    atoms: dict[int, list[_Atom]] = {}
    for h in context.headers:
        text = context.messages[h.message].text[h.start : h.end]
        there = h.document in present or mode != "delete"
        atoms.setdefault(h.message, []).append(
            _Atom(h.start, h.end, _lead(text), h.document, None, there)
        )
    for s, keep, instead in zip(context.sources, kept, stand_in, strict=True):
        if s.whole:
            if not keep:
                _remove(context, s, instead, placeholder, dropped, content)
            continue
        atoms.setdefault(s.message, []).append(
            _Atom(s.start, s.end, _lead(s.text), s.document, s.paragraph, bool(keep), instead)
        )
    for m, parts in atoms.items():
        message = context.messages[m]
        text = _joined(message.text, sorted(parts, key=lambda a: (a.start, a.end)))
        if not text.strip() and message.text.strip() and message.role == "tool":
            text = placeholder
        content[m] = text
    return tuple(
        replace(m, text=content.get(i, m.text))
        for i, m in enumerate(context.messages)
        if i not in dropped
    )


def _remove(
    context: Context,
    source: ContextSource,
    text: str | None,
    placeholder: str,
    dropped: set[int],
    content: dict[int, str],
) -> None:
    """Take a whole message away, with the results of its tool calls."""
    alone = context.messages[source.message].role == "tool"
    if text is None and not alone:
        dropped.update((source.message, *source.also))
        return
    # The messages stay, so that every call has its result.
    for m in (source.message, *source.also):
        content[m] = placeholder if text is None else text


def _joined(content: str, atoms: Sequence[_Atom]) -> str:
    """A message's content with its pieces kept, dropped or replaced."""
    first: dict[object, str] = {}
    run, before = 0, None
    for a in atoms:
        # Fixed text between two sources separates them; their white space is their own.
        run += before is not None and a.start != before
        before, a.run = a.end, run
        for group in _groups(a):
            first.setdefault(group, a.lead)
    out: list[str] = []
    seen: set[object] = set()
    at = 0
    for a in atoms:
        out.append(content[at : a.start])
        at = a.end
        if not a.kept and a.replacement is None:
            continue
        lead = next((first[g] for g in _groups(a) if g not in seen), a.lead)
        seen.update(_groups(a))
        body = content[a.start + len(a.lead) : a.end] if a.kept else a.replacement
        out.append(lead + (body or ""))
    return "".join([*out, content[at:]])


def _groups(a: _Atom) -> list[tuple[object, ...]]:
    """What an atom may be the first of: its run, its document, its paragraph; widest first."""
    groups: list[tuple[object, ...]] = [(a.run,), (a.run, a.document)]
    if a.paragraph is not None:
        groups.append((a.run, a.document, a.paragraph))
    return groups


def _lead(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def hex_mask(kept: Sequence[bool]) -> str:
    """A mask as hexadecimal digits; source 0 is the highest bit of the first digit."""
    padded = [*kept, *[False] * (-len(kept) % 4)]
    digits = (padded[i : i + 4] for i in range(0, len(padded), 4))
    return "".join(f"{sum(int(b) << (3 - j) for j, b in enumerate(d)):x}" for d in digits)


def read_mask(digits: str, n: int) -> tuple[bool, ...]:
    """Invert `hex_mask` for n sources."""
    bits = [bool(int(d, 16) >> (3 - j) & 1) for d in digits for j in range(4)]
    return tuple(bits[:n])
