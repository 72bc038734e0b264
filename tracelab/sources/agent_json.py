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
_BINARY = re.compile("[\x00-\x08\x0e-\x1f\ufffd]")


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


def text_of(content: Any) -> tuple[str, tuple[str, ...]]:
    """Text of a message's content, and flags: `non_text` for parts left out, `binary`."""
    flags: list[str] = []
    if content is None:
        text = ""
    elif isinstance(content, str):
        text = content
    elif isinstance(content, list):
        parts = []
        for part in content:
            body = part if isinstance(part, str) else _part_text(part)
            if _thought(part) is not None:
                continue  # see `reasoning_of`
            if body is None:
                kind = part.get("type") if isinstance(part, dict) else None
                body = f"[{kind if isinstance(kind, str) else 'part'}]"
                flags.append("non_text")
            parts.append(body)
        text = "".join(parts)
    else:
        text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    if _BINARY.search(text):
        flags.append("binary")
    return text, tuple(dict.fromkeys(flags))


def reasoning_of(message: Any) -> str:
    """What a model thought before a message, where the log keeps it apart; else empty."""
    if not isinstance(message, dict):
        return ""
    for key in ("reasoning_content", "reasoning", "thinking"):
        if isinstance(said := message.get(key), str) and said:
            return said
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return "\n".join(t for part in parts if (t := _thought(part)))


def _thought(part: Any) -> str | None:
    """The text of a part that is reasoning (\"\" where it is redacted); None for other parts."""
    if not isinstance(part, dict) or part.get("type") not in ("reasoning", "thinking"):
        return None
    said = next((part[k] for k in ("reasoning", "thinking", "content", "text") if k in part), "")
    return said if isinstance(said, str) else ""


def _part_text(part: Any) -> str | None:
    if isinstance(part, dict):
        for key in ("text", "content", "refusal"):
            if isinstance(part.get(key), str):
                return str(part[key])
    return None


def text_or_none(value: Any) -> str | None:
    """A label, answer or name as text; None for nothing and for blanks."""
    if value is None or isinstance(value, dict | list):
        return None
    text = str(value).strip()
    return text or None


def count_or_none(value: Any) -> int | None:
    """A count of tokens: a non-negative integer, also one written as a string."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 16:
        value = int(value)
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53
    return value if good else None
