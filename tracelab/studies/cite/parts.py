"""Cut strings, documents, chats and agent histories into sources.

What is cut tiles: the sources of a text, with the headers of its documents, give it back when
joined. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tracelab.core.errors import PlanError
from tracelab.studies.cite.context import Context, Header, Message, Source
from tracelab.text.segment import segment

Unit = Literal["word", "sentence", "paragraph", "document", "message"]
"""How finely a context is cut. A `message` of a chat is one source; elsewhere it is a document."""

TEMPLATE = "Context: {context}\n\nQuery: {query}"
"""How a context and a query become one user message, as ContextCite writes them."""

_WORD = re.compile(r"\s*\S+\s*$|\s*\S+")
_FIELD = re.compile(r"\{(context|query)\}")


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a context; the title is a header, not a source."""

    text: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class Cut:
    """How to cut.

    Attributes:
        unit: See `Unit`.
        segmenter: What cuts sentences, a name in `tracelab.text.segment.SEGMENTERS`.
        most: Most sources.
        roles: Messages of which roles hold sources (chats only).
        exchanges: An assistant's tool call and its results are one source; otherwise results
            are sources and calls stay.
    """

    unit: Unit = "sentence"
    segmenter: str = "reasoning-v1"
    most: int = 2000
    roles: tuple[str, ...] = ("user", "assistant", "tool")
    exchanges: bool = False


def from_documents(
    documents: Sequence[Document],
    query: str,
    cut: Cut,
    *,
    template: str = TEMPLATE,
    roles: Sequence[tuple[int, int, str]] = (),
    ranges: Sequence[tuple[int, int]] | None = None,
) -> Context:
    """A context of documents (one string is one document) and a query, as one user message.

    Args:
        documents: In order; they are separated by blank lines.
        query: What is asked.
        cut: How to cut.
        template: Text with `{context}` and `{query}`.
        roles: Known roles of character ranges of the joined context: `(start, end, role)`.
        ranges: The sources, as character ranges of the joined context, instead of cutting.

    Raises:
        PlanError: There is no text, or more sources than `cut.most`, or `ranges` overlap.
    """
    if not any(d.text.strip() for d in documents):
        raise PlanError("the context is empty, so there is nothing to attribute to")
    text = ""
    sources: list[tuple[int, int, int, int]] = []
    headers: list[tuple[int, int, int]] = []
    for number, d in enumerate(documents):
        # What separates it from the document before belongs to its first piece.
        start = len(text)
        text += "\n\n" if number else ""
        if d.title:
            text += d.title
            headers.append((start, len(text), number))
            start = len(text)
            text += "\n"
        text += d.text
        pieces = _pieces(text[start:], cut)
        sources += [(start + a, start + b, number, p) for a, b, p in pieces]
    before, after = _around(template, query)
    if ranges is not None:
        if bad := next((r for r in ranges if not 0 <= r[0] < r[1] <= len(text)), None):
            raise PlanError(f"source {bad[0]} to {bad[1]} is not within the context's {len(text)}")
        sources = [(a, b, i, 0) for i, (a, b) in enumerate(sorted(ranges))]
        headers = []
    at = len(before)
    message = Message("user", before + text + after)
    return _limited(
        Context(
            (message,),
            tuple(
                Source(0, at + a, at + b, text[a:b], d, p, role=_role(a, b, roles))
                for a, b, d, p in sources
            ),
            tuple(Header(0, at + a, at + b, d) for a, b, d in headers),
        ),
        cut,
    )


def from_messages(
    messages: Sequence[Message], cut: Cut, *, roles: Mapping[int, str] | None = None
) -> Context:
    """A context of the messages of a chat or of an agent's history.

    The last message, if it is the user's, is the query and never a source; so is an assistant's
    call of tools, unless `cut.exchanges`.

    Args:
        messages: All messages before the response.
        cut: How to cut.
        roles: Known roles of messages, by index.

    Raises:
        PlanError: No message can be a source, or there are too many sources.
    """
    roles = roles or {}
    last = len(messages) - 1
    sources: list[Source] = []
    taken: set[int] = set()
    for m, message in enumerate(messages):
        query = m == last and message.role == "user"
        if m in taken or query or message.role not in cut.roles:
            continue
        size, role = len(message.content), roles.get(m)
        if message.calls:
            if cut.exchanges:
                results = _results(messages, m)
                taken.update(results)
                sources.append(Source(m, 0, size, message.content, m, 0, True, results, role))
        elif not message.content.strip():
            continue
        elif cut.unit == "message":
            sources.append(Source(m, 0, size, message.content, m, 0, True, (), role))
        else:
            sources += [
                Source(m, a, b, message.content[a:b], m, p, role=role)
                for a, b, p in _pieces(message.content, cut)
            ]
    if not sources:
        raise PlanError("no message of this chat can be a source: there is only the query")
    return _limited(Context(tuple(messages), tuple(sources)), cut)


def _results(messages: Sequence[Message], call: int) -> tuple[int, ...]:
    """The tool messages right after a call."""
    end = call + 1
    while end < len(messages) and messages[end].role == "tool":
        end += 1
    return tuple(range(call + 1, end))


def _pieces(text: str, cut: Cut) -> list[tuple[int, int, int]]:
    """Ranges that tile a text, and the paragraph that each is in."""
    if not text.strip():
        return []
    if cut.unit in ("document", "message"):
        return [(0, len(text), 0)]
    found: list[tuple[int, int, int]] = []
    for number, p in enumerate(segment(text, "paragraph")):
        if cut.unit == "paragraph":
            found.append((p.start, p.end, number))
        elif cut.unit == "word":
            found += [
                (p.start + w.start(), p.start + w.end(), number) for w in _WORD.finditer(p.text)
            ]
        else:
            spans = segment(p.text, cut.segmenter)
            found += [(p.start + s.start, p.start + s.end, number) for s in spans]
    return found


def _around(template: str, query: str) -> tuple[str, str]:
    """Text before and after the context; the query may hold anything, braces too."""
    names = [m.group(1) for m in _FIELD.finditer(template)]
    if names.count("context") != 1 or names.count("query") > 1:
        raise PlanError(f"context.template must hold {{context}} once and {{query}} at most once, "
                        f"not {template!r}")  # fmt: skip
    before, _, after = template.partition("{context}")
    return before.replace("{query}", query), after.replace("{query}", query)


def _role(start: int, end: int, roles: Sequence[tuple[int, int, str]]) -> str | None:
    """Role of the labelled range that a source overlaps most."""
    overlap = [(min(end, b) - max(start, a), role) for a, b, role in roles]
    best = max(overlap, default=(0, None), key=lambda x: x[0])
    return best[1] if best[0] > 0 else None


def _limited(context: Context, cut: Cut) -> Context:
    if len(context.sources) > cut.most:
        raise PlanError(
            f"has {len(context.sources)} sources, more than context.max_sources = {cut.most}; "
            f"cut it coarser than {cut.unit!r}"
        )
    return context
