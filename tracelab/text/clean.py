"""Text that came from a model, made harmless for a terminal. Pure.

A trace must not be able to move the cursor, change colours, reverse the reading direction or forge
a line.
"""

from __future__ import annotations

import re
import unicodedata

SUSPECT = re.compile(r"[^\x20-\x7e]")
"""Characters that are looked at one by one; the rest is plain ASCII."""


def clean(text: str) -> str:
    """One line without anything a terminal could act on.

    Line breaks, tabs and unusual spaces become a space; other control, formatting (bidirectional
    overrides, zero-width) and unassigned characters become U+FFFD.
    """
    return SUSPECT.sub(lambda m: _harmless(m.group()), text)


def _harmless(char: str) -> str:
    if char in "\n\r\t" or unicodedata.category(char).startswith("Z"):
        return " "
    return char if char.isprintable() else "\ufffd"
