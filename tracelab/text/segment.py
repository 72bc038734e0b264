"""Text into spans: named, versioned segmenters, and where the reasoning of a response lies.

Every segmenter is lossless: its spans tile the text, so joining their texts gives it back exactly.
White space between two sentences belongs to the second one, because a sentence's first token
usually carries it (" Plum"), so a boundary is the place right after the last character of the
sentence before; white space at the very end belongs to the last span. No span is only white space
unless the whole text is; the empty text has no spans.

A segmenter is a pure function from a text to its interior cuts (offsets, strictly increasing).
What a released name does to a text never changes: a better segmenter gets a new name, because
scores are stored by the units it cuts.

Pure and linear in the length of the text. Knows nothing about tokens or models.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tracelab.core.errors import ConfigError
from tracelab.text.paragraph import paragraph_cuts
from tracelab.text.published import anchor_cuts, thought_anchors_chunks
from tracelab.text.reasoning import reasoning_cuts
from tracelab.text.tags import blocks

__all__ = ["SEGMENTERS", "Span", "reasoning_range", "segment", "thought_anchors_chunks"]

Segmenter = Callable[[str], list[int]]

SEGMENTERS: Mapping[str, Segmenter] = MappingProxyType(
    {
        "reasoning-v1": reasoning_cuts,
        "thought-anchors": anchor_cuts,
        "paragraph": paragraph_cuts,
    }
)
"""Every segmenter by name."""


@dataclass(frozen=True, slots=True)
class Span:
    """The characters `[start, end)` of a text."""

    start: int
    end: int
    text: str


def segment(text: str, segmenter: str = "reasoning-v1") -> list[Span]:
    """Cut a text into spans that tile it.

    Args:
        text: Any text.
        segmenter: A name in `SEGMENTERS`.

    Returns:
        The spans in order; none for the empty text.

    Raises:
        ConfigError: No segmenter has this name.
    """
    if segmenter not in SEGMENTERS:
        near = difflib.get_close_matches(segmenter, SEGMENTERS, n=1, cutoff=0.0)[0]
        raise ConfigError(f"There is no segmenter {segmenter!r}; the nearest is {near!r}.")
    return _tile(text, SEGMENTERS[segmenter](text))


def _tile(text: str, cuts: Iterable[int]) -> list[Span]:
    edges = [0, *cuts, len(text)] if text else []
    return [Span(a, b, text[a:b]) for a, b in zip(edges, edges[1:], strict=False)]


def reasoning_range(response: str) -> tuple[int, int]:
    """Find the part of a response that reasons: what sentences are cut from.

    - Between the marks of the model's family (`text.tags`): what lies between. The opening one may
      be missing, because many chat templates put it into the prompt; a tag that does not start a
      line is a mention, not a tag.
    - Several pairs: from the first opening to the last closing mark, with what is said between.
    - An opening mark as the first thing of a response that never closes it (cut off): to the end.
    - An empty pair (reasoning switched off): the text after it.
    - No mark: the whole response.

    After a tag, line breaks are left out at the front (they come with the tag, often in the same
    token) but spaces after the last of them are kept (the first word's token carries them). White
    space before `</think>` is left out, so that the last boundary is the end of the last
    sentence, where an answer can be forced. Units tile exactly this range.

    Returns:
        Half-open character range of `response`.
    """
    found = blocks(response)
    if not found:
        return 0, len(response)
    first, last = found[0], found[-1]
    if not last.closed:
        return _skip_lines(response, first.start, len(response)), len(response)
    end = first.start + len(response[first.start : last.end].rstrip())
    if end > first.start:
        return _skip_lines(response, first.start, end), end
    return _skip_lines(response, last.after, len(response)), len(response)


def _skip_lines(text: str, start: int, end: int) -> int:
    """Return the place after the last line break of the white space that begins at `start`."""
    at = start
    while at < end and text[at].isspace():
        at += 1
        if text[at - 1] == "\n":
            start = at
    return start
