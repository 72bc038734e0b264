"""The splitter of the published Thought Anchors data, with offsets: `thought-anchors`.

Reproduces the chunks as published (not the later code, which drops an unterminated tail): a chunk
ends at `.`, `?` or `!` before a space or a line feed, or where a blank line starts; chunks are
stripped; one shorter than 10 characters is glued to the next with a single space (the last one to
the one before). No rule knows abbreviations, LaTeX, quotes or lists. Pure.
"""

from __future__ import annotations

import re

_END = re.compile(r"[.?!](?=[ \n])|\n(?=\n)|\r(?=\n\r\n)")
_SHORTEST = 10


def anchor_cuts(text: str) -> list[int]:
    """Cut a text where the published splitter would end a chunk.

    White space that the published chunks lose stays in the spans, so a span, stripped and with
    its inner white space normalised, is the chunk with its white space normalised.
    """
    return [end for end, _ in _chunks(text)[:-1]]


def thought_anchors_chunks(text: str) -> list[str]:
    """Return the chunks as published: stripped, glued with single spaces.

    Args:
        text: A response, or prompt and response; only what lies between `<think>` and `</think>`
            is cut, where they are present.
    """
    if "<think>" in text:
        text = text.split("<think>")[1]
    return [chunk for _, chunk in _chunks(text.split("</think>")[0].strip())]


def _chunks(text: str) -> list[tuple[int, str]]:
    """List (end of the last non-blank character, chunk)."""
    pieces: list[tuple[int, str]] = []
    start = 0
    for end in [*(m.end() for m in _END.finditer(text)), len(text)]:
        piece = text[start:end].rstrip()
        if chunk := piece.lstrip():
            pieces.append((start + len(piece), chunk))
        start = end
    glued: list[tuple[int, str]] = []
    held: list[str] = []
    held_length = 0
    for end, chunk in pieces:
        held.append(chunk)
        held_length += len(chunk) + (len(held) > 1)
        if held_length >= _SHORTEST:
            glued.append((end, " ".join(held)))
            held, held_length = [], 0
    if held:
        rest = " ".join(held)
        if glued:
            rest = f"{glued.pop()[1]} {rest}"
        glued.append((pieces[-1][0], rest))
    return glued
