"""JSON of agent logs, which may be hostile: parsed without refusing what is worth keeping.

Bytes that are not text, lone surrogates, NaN and deep nesting must neither stop an import nor
reach whoever writes the record out again.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

MAX_DEPTH = 200
_SURROGATE = re.compile("[\ud800-\udfff]")


class BadRecordError(Exception):
    """A record cannot be used; the message is the reject's reason."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        """Keep the reason and the field at fault."""
        super().__init__(reason)
        self.reason, self.field = reason, field


def parse_json(data: bytes) -> Any:
    """Parse a JSON document: lone surrogates become U+FFFD, NaN and infinities become null.

    Raises:
        BadRecordError: It is not JSON, or nested too deep.
    """
    try:
        value = json.loads(
            data.decode("utf-8-sig", "replace"), parse_constant=lambda _: None, parse_float=_finite
        )
    except json.JSONDecodeError as e:
        raise BadRecordError(f"Not valid JSON: {e.msg} (line {e.lineno}).") from None
    except RecursionError:
        raise BadRecordError(f"Nested more than {MAX_DEPTH} levels deep.") from None
    except ValueError:
        raise BadRecordError("Holds an integer with too many digits.") from None
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BadRecordError(f"Nested more than {MAX_DEPTH} levels deep.")
    return _scrub(value) if b"\\ud" in data or b"\\uD" in data else value


def _finite(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _depth(value: Any) -> int:
    level, depth = [value], 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
    return depth


def _scrub(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_scrub(v) for v in value]
    if isinstance(value, dict):
        return {_scrub(k): _scrub(v) for k, v in value.items()}
    return value


def count_or_none(value: Any) -> int | None:
    """A count of tokens: a non-negative integer, also one written as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if good else None
