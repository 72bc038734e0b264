"""Cut strings, documents, chats and agent histories into sources.

What is cut tiles: the sources of a text, with the headers of its documents, give it back when
joined. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from tracelab.core.errors import PlanError
from tracelab.core.outside import whole
from tracelab.core.trace import Trace, Turn
from tracelab.studies.cite.context import Context, ContextSource, Header
from tracelab.text.segment import segment

Grain = Literal["word", "sentence", "paragraph", "document", "message"]
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
        unit: See `Grain`.
        segmenter: What cuts sentences, a name in `tracelab.text.segment.SEGMENTERS`.
        most: Most sources.
        roles: Messages of which roles hold sources (chats only).
        exchanges: An assistant's tool call and its results are one source; otherwise results
            are sources and calls stay.
    """

    unit: Grain = "sentence"
    segmenter: str = "reasoning-v1"
    most: int = 2000
    roles: tuple[str, ...] = ("user", "assistant", "tool")
    exchanges: bool = False


def joined(documents: Sequence[Document]) -> tuple[str, list[tuple[int, int, str | None]]]:
    """Documents as one text, blank lines between them, and where each stands in it.

    Returns:
        The text; and start, end and title of each document, as in `extra["documents"]`.

    Raises:
        PlanError: There is no text.
    """
    if not any(d.text.strip() for d in documents):
        raise PlanError("the context is empty, so there is nothing to attribute to")
    text = ""
    places = []
    for number, d in enumerate(documents):
        text += "\n\n" if number else ""
        text += f"{d.title}\n" if d.title else ""
        places.append((len(text), len(text) + len(d.text), d.title or None))
        text += d.text
    return text, places


def templated(trace: Trace, template: str, named: str = "cite.template") -> Trace:
    """A trace whose documents and query are put into one message by a template.

    A trace that says nothing of documents and query, or has a template of its own, stays as it is.

    Args:
        trace: The trace.
        template: Text with `{context}` and `{query}`.
        named: What the template is called in messages.

    Raises:
        PlanError: The template does not hold `{context}` once and `{query}` at most once.
    """
    before, after = around(template, str(trace.extra.get("query") or ""), named)
    documents = _documents(trace)
    if "query" not in trace.extra or trace.extra.get("template") is not None or not documents:
        return trace
    turn, first = documents[0].turn, documents[0].outer
    text = trace.turns[turn].text[first : documents[-1].end]
    message = replace(trace.turns[turn], text=before + text + after)
    turns = (*trace.turns[:turn], message, *trace.turns[turn + 1 :])
    shift = len(before) - first
    moved = {
        key: [[r[0], r[1] + shift, r[2] + shift, *r[3:]] for r in trace.extra[key]]
        for key in ("documents", "sources", "roles")
        if _ranges(trace, key) is not None
    }
    return replace(trace, turns=turns, extra={**trace.extra, **moved})


def context_of(trace: Trace, cut: Cut) -> Context:
    """The prompt of a trace as a context, cut by what the trace says of it, else by its messages.

    Raises:
        PlanError: Nothing of it can be a source, there are too many sources, or they overlap.
    """
    messages, roles = trace.prompt, trace.extra.get("roles")
    ranges = _ranges(trace, "sources")
    labelled = [(t, a, b, str(label)) for t, a, b, label, *_ in _ranges(trace, "roles") or ()]
    if ranges is not None or (documents := _documents(trace)):
        if ranges is not None:
            pieces = [(t, a, b, i, 0) for i, (t, a, b, *_) in enumerate(sorted(ranges))]
            headers: list[Header] = []
        else:
            pieces, headers = _of_documents(messages, documents, cut)
        if bad := next((p for p in pieces if not 0 <= p[0] < len(messages)), None):
            raise PlanError(f"a source is in message {bad[0]}, which does not exist")
        sources = [
            ContextSource(t, a, b, messages[t].text[a:b], d, p, role=_role(t, a, b, labelled))
            for t, a, b, d, p in pieces
        ]
        if not sources:
            raise PlanError("the context is empty, so there is nothing to attribute to")
        return _limited(Context(messages, tuple(sources), tuple(headers)), cut)
    known = {}
    if isinstance(roles, Mapping):
        known = {n: str(v) for k, v in roles.items() if (n := whole(k)) is not None}
    return from_messages(messages, cut, roles=known, prompt=_only_a_query(messages, cut))


def _only_a_query(messages: Sequence[Turn], cut: Cut) -> bool:
    """Whether all that could be cut is the question: then that is the context."""
    texts = [m for m in messages if m.role in cut.roles and m.text.strip()]
    return bool(messages) and texts == [messages[-1]] and not any(map(_calls, messages))


@dataclass(frozen=True, slots=True)
class _Place:
    """A document in its turn; `outer` is where its title starts, else its text."""

    turn: int
    start: int
    end: int
    title: str | None

    @property
    def outer(self) -> int:
        return self.start - (len(self.title) + 1 if self.title else 0)


def _documents(trace: Trace) -> list[_Place]:
    found = []
    for turn, start, end, *title in _ranges(trace, "documents") or ():
        said = title[0] if title and isinstance(title[0], str) and title[0] else None
        size = len(trace.turns[turn].text) if 0 <= turn < len(trace.turns) else -1
        place = _Place(turn, start, end, said)
        if not 0 <= place.outer <= start <= end <= size:
            raise PlanError(f"a document, {start} to {end} of message {turn}, is not within it")
        found.append(place)
    return found


def _of_documents(
    messages: Sequence[Turn], documents: Sequence[_Place], cut: Cut
) -> tuple[list[tuple[int, int, int, int, int]], list[Header]]:
    """Pieces (turn, start, end, document, paragraph), and the titles."""
    pieces: list[tuple[int, int, int, int, int]] = []
    headers: list[Header] = []
    turn, end = -1, 0
    for number, d in enumerate(documents):
        start = d.outer
        # What separates it from the document before belongs to its first piece.
        if d.turn == turn and not messages[turn].text[end:start].strip():
            start = end
        turn, end = d.turn, d.end
        if d.title:
            headers.append(Header(turn, start, d.start - 1, number))
            start = d.start - 1
        text = messages[turn].text[start:end]
        pieces += [(turn, start + a, start + b, number, p) for a, b, p in _pieces(text, cut)]
    return pieces, headers


def _ranges(trace: Trace, key: str) -> list[list[Any]] | None:
    """A key of `extra` that lists ranges of turns; None where it is anything else."""
    found = trace.extra.get(key)
    size = 4 if key == "roles" else 3
    if not isinstance(found, list) or not all(
        isinstance(r, list) and len(r) >= size and all(type(x) is int for x in r[:3]) for r in found
    ):
        return None
    return found


def from_messages(
    messages: Sequence[Turn],
    cut: Cut,
    *,
    roles: Mapping[int, str] | None = None,
    prompt: bool = False,
) -> Context:
    """A context of the messages of a chat or of an agent's history.

    The last message, if it is the user's, is the query and no source; so is an assistant's call
    of tools, unless `cut.exchanges`.

    Args:
        messages: All messages before the response.
        cut: How to cut.
        roles: Known roles of messages, by index.
        prompt: The query is all that there is, and a source.

    Raises:
        PlanError: No message can be a source, or there are too many sources.
    """
    roles = roles or {}
    last = len(messages) - 1
    sources: list[ContextSource] = []
    taken: set[int] = set()
    for m, message in enumerate(messages):
        query = m == last and message.role == "user" and not prompt
        if m in taken or query or message.role not in cut.roles:
            continue
        size, role = len(message.text), roles.get(m)
        if _calls(message):
            if cut.exchanges:
                results = _results(messages, m)
                taken.update(results)
                sources.append(ContextSource(m, 0, size, message.text, m, 0, True, results, role))
        elif not message.text.strip():
            continue
        elif cut.unit == "message":
            sources.append(ContextSource(m, 0, size, message.text, m, 0, True, (), role))
        else:
            sources += [
                ContextSource(m, a, b, message.text[a:b], m, p, role=role)
                for a, b, p in _pieces(message.text, cut)
            ]
    if not sources:
        raise PlanError("no message of this chat can be a source: there is only the query")
    return _limited(Context(tuple(messages), tuple(sources)), cut)


def _results(messages: Sequence[Turn], call: int) -> tuple[int, ...]:
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


def around(template: str, query: str, named: str) -> tuple[str, str]:
    """Text before and after the context; the query may hold anything, braces too.

    Raises:
        PlanError: The template does not hold `{context}` once and `{query}` at most once.
    """
    names = [m.group(1) for m in _FIELD.finditer(template)]
    if names.count("context") != 1 or names.count("query") > 1:
        raise PlanError(
            f"{named} must hold {{context}} once and {{query}} at most once, not {template!r}"
        )
    before, _, after = template.partition("{context}")
    return before.replace("{query}", query), after.replace("{query}", query)


def _calls(message: Turn) -> bool:
    return bool(message.fields.get("tool_calls"))


def _role(
    turn: int, start: int, end: int, roles: Sequence[tuple[int, int, int, str]]
) -> str | None:
    """Role of the labelled range that a source overlaps most."""
    overlap = [(min(end, b) - max(start, a), role) for t, a, b, role in roles if t == turn]
    best = max(overlap, default=(0, None), key=lambda x: x[0])
    return best[1] if best[0] > 0 else None


def _limited(context: Context, cut: Cut) -> Context:
    if len(context.sources) > cut.most:
        raise PlanError(
            f"has {len(context.sources)} sources, more than cite.max_sources = {cut.most}; "
            f"cut it coarser than {cut.unit!r}"
        )
    return context
