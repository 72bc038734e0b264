"""Yes or no, by two patterns: the last one found decides.

Pure. A match inside a longer match of the other pattern does not count (`safe` in `unsafe`).
"""

from __future__ import annotations

import re
from typing import Literal


def find_yes_no(
    text: str, positive: re.Pattern[str], negative: re.Pattern[str]
) -> Literal["yes", "no"] | None:
    """Return what the last match says, or None when nothing, or both at once, matches there.

    Matches are taken from left to right without overlap; of two that start together the longer
    counts.
    """
    last: Literal["yes", "no"] | None = None
    at = 0
    yes, no = positive.search(text), negative.search(text)
    while yes or no:
        if yes and yes.start() < at:
            yes = positive.search(text, at)
            continue
        if no and no.start() < at:
            no = negative.search(text, at)
            continue
        # Leftmost first, then longest.
        y = (yes.start(), -yes.end()) if yes else None
        n = (no.start(), -no.end()) if no else None
        if y == n:
            last, found = None, yes
        elif n is None or (y is not None and y < n):
            last, found = "yes", yes
        else:
            last, found = "no", no
        assert found is not None
        at = max(found.end(), found.start() + 1)
    return last
