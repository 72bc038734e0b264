"""What a language model replied, read as the one JSON object that it was asked for.

Pure, and linear in the length of the reply, which is hostile text.
"""

from __future__ import annotations

import re
from typing import Any

from tracelab.core.outside import INNER_DEPTH, OutsideError, TwiceError, decode
from tracelab.text.tags import parted

_FENCED = re.compile(r"```(?:json)?[ \t]*\n(.*?)\n[ \t]*```", re.DOTALL)
_LONGEST_REPLY = 100_000  # characters


class UnclearReplyError(Exception):
    """The reply cannot be used; the message says why, to go after "the reply"."""


def one_object(text: str) -> dict[str, Any]:
    """Read the object of a reply: what follows its reasoning, alone or in the only fence.

    Raises:
        UnclearReplyError: It is not one complete JSON object, or gives a key twice.
    """
    if len(text) > _LONGEST_REPLY:
        raise UnclearReplyError("is too long")
    body = parted(text)[1].strip()
    if not body:
        raise UnclearReplyError("is empty")
    blocks = _FENCED.findall(body)
    if len(blocks) > 1:
        raise UnclearReplyError("has several blocks")
    try:
        found = decode(blocks[0] if blocks else body, depth=INNER_DEPTH, unique=True)
    except TwiceError as e:
        raise UnclearReplyError(f"gives {e.field!r} twice") from None
    except OutsideError:
        raise UnclearReplyError("is not one complete JSON object") from None
    if not isinstance(found, dict):
        raise UnclearReplyError("is not a JSON object")
    return found
