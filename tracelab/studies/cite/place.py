"""Where the sources of a context stand in the rendered prompt. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracelab.core.errors import PlanError
from tracelab.core.messages import as_message
from tracelab.core.seam import Message
from tracelab.studies.cite.context import Context

Render = Callable[[Sequence[Message]], str]
"""Messages into the text of the prompt."""

_LOOK = 8
"""Characters after a content that must be the template's."""

_MARK = "\u2983tracelab {}\u2984"


def place_sources(render: Render, context: Context) -> tuple[str, list[tuple[int, int]]]:
    """Render a context and find its sources.

    Every content is swapped for a mark once, which shows the text that the template puts around
    it; so a short content is never mistaken for a part of the template.

    Returns:
        The prompt, and one character range a source. The range of a source that the template
        changes or leaves out (an old turn's reasoning, say) is empty: it stands nowhere.

    Raises:
        PlanError: The template refuses the messages.
    """
    given = [as_message(m) for m in context.messages]
    text = render(given)
    shown = _contents(render, given, text)
    placed = []
    at = 0
    for s in context.sources:
        start = end = at
        if (where := shown[s.message]) is not None:
            a, b = max(s.start, where.first), min(s.end, where.last)
            if a < b:
                start, end = where.at + a - where.first, where.at + b - where.first
        placed.append((start, end))
        at = end
    return text, placed


@dataclass(frozen=True, slots=True)
class _Shown:
    """The characters [first, last) of a content stand in the prompt from `at` on."""

    at: int
    first: int
    last: int


def _contents(render: Render, given: Sequence[Message], text: str) -> list[_Shown | None]:
    marks = [_MARK.format(i) if m["content"].strip() else "" for i, m in enumerate(given)]
    try:
        frame = render([{**m, "content": k} for m, k in zip(given, marks, strict=True)])
    except PlanError:  # a template that reads what it renders
        frame = ""
    # The template's own text before each content that it shows, and after the last one.
    order = [i for i, mark in enumerate(marks) if mark and mark in frame]
    around, rest = [], frame
    for i in order:
        before, _, rest = rest.partition(marks[i])
        around.append(before)
    around.append(rest)
    found: list[_Shown | None] = [None] * len(given)
    at = 0
    for k, i in enumerate(order):
        content, following = given[i]["content"], around[k + 1][:_LOOK]
        start = at + len(around[k]) if text.startswith(around[k], at) else None
        lead = len(content) - len(content.lstrip())
        size = len(content.rstrip())
        for first in (0, lead):
            for last in (len(content), size):
                piece = content[first:last]
                here = start if start is not None else text.find(piece, at)
                if (
                    found[i] is None
                    and here >= 0
                    and text.startswith(piece, here)
                    and text.startswith(following, here + len(piece))
                ):
                    found[i] = _Shown(here, first, last)
        if (where := found[i]) is not None:
            at = where.at + where.last - where.first
    return found
