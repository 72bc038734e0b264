"""Cuts at blank lines, for contexts: `paragraph`. Pure."""

from __future__ import annotations

import re

# No white space right before the match, so that runs of it are scanned once.
_BLANK_LINE = re.compile(r"(?<!\s)[^\S\n]*+\n[^\S\n]*+\n")


def paragraph_cuts(text: str) -> list[int]:
    """Cut after the last character of each paragraph that another one follows."""
    last = len(text.rstrip())
    return [m.start() for m in _BLANK_LINE.finditer(text) if 0 < m.start() < last]
