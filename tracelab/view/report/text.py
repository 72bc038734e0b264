"""Hostile text into HTML: what could act on the page or on its reader is shown instead.

`visible` is for text in the template, `island` for data that the page's script reads. The script
has its own copy of the rule (`static/base.js`), which a test holds to this one.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from markupsafe import Markup, escape

_CONTROLS = (
    "NUL SOH STX ETX EOT ENQ ACK BEL BS TAB LF VT FF CR SO SI DLE DC1 DC2 DC3 DC4 NAK SYN ETB CAN "
    "EM SUB ESC FS GS RS US"
).split()
_NAMED = {
    0x7F: "DEL",
    0x061C: "ALM", 0x200B: "ZWSP", 0x200E: "LRM", 0x200F: "RLM", 0x202A: "LRE", 0x202B: "RLE",
    0x202C: "PDF", 0x202D: "LRO", 0x202E: "RLO", 0x2028: "LSEP", 0x2029: "PSEP", 0x2060: "WJ",
    0x2066: "LRI", 0x2067: "RLI", 0x2068: "FSI", 0x2069: "PDI", 0xFEFF: "BOM",
}  # fmt: skip

_SUSPECT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def mark(char: str) -> str:
    """What stands for a character that is not shown: its short name."""
    code = ord(char)
    if code < len(_CONTROLS):
        return _CONTROLS[code]
    return _NAMED.get(code, f"U+{code:04X}")


def visible(text: object) -> Markup:
    """Escaped HTML of a text, with controls and direction overrides as labelled marks."""
    parts: list[Markup] = []
    at = 0
    said = str(text)
    for match in _SUSPECT.finditer(said):
        char = match.group()
        name = unicodedata.name(char, f"U+{ord(char):04X}")
        parts.append(escape(said[at : match.start()]))
        parts.append(Markup('<span class="ctl" title="{}">{}</span>').format(name, mark(char)))
        at = match.end()
    parts.append(escape(said[at:]))
    return Markup("").join(parts)


_LEAVING = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def island(data: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it ends the element or opens a comment.

    Raises:
        ValueError: It holds NaN or infinity, which JSON has not.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.translate(_LEAVING))
