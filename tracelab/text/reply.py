"""What a language model replied, read as the one JSON object that it was asked for.

Pure, and linear in the length of the reply, which is hostile text.
"""

from __future__ import annotations

import json
import re
from typing import Any

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
_LONGEST_REPLY = 100_000  # characters


class UnclearReplyError(Exception):
    """The reply cannot be used; the message says why, to go after "the reply"."""


def one_object(text: str) -> dict[str, Any]:
    """Read the object of a reply: what follows the last `</think>`, alone or in the only fence.

    Raises:
        UnclearReplyError: It is not one complete JSON object, or gives a key twice.
    """
    if len(text) > _LONGEST_REPLY:
        raise UnclearReplyError("is too long")
    body = text.rpartition("</think>")[2].strip()
    if not body:
        raise UnclearReplyError("is empty")
    blocks = _FENCED.findall(body)
    if len(blocks) > 1:
        raise UnclearReplyError("has several blocks")
    try:
        found = json.loads(blocks[0] if blocks else body, object_pairs_hook=_unique)
    except (ValueError, RecursionError):
        raise UnclearReplyError("is not one complete JSON object") from None
    if not isinstance(found, dict):
        raise UnclearReplyError("is not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise UnclearReplyError(f"gives {key[:40]!r} twice")
        found[key] = value
    return found
