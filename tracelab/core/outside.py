"""The one door for JSON that comes from outside: records, replies, JSON inside JSON, configs.

`decode` is the only caller of Python's decoder for what others wrote (a test holds this). What it
returns can be written out again by whoever gets it: text without lone surrogates, finite numbers
that fit a float, bounded depth, and no more objects than the text's size makes likely. Two
policies: what cannot be taken as it stands is refused, or (`repair`, for logs with a blemish that
are worth keeping) becomes U+FFFD or null. Of two equal keys the last one counts, as everywhere,
unless `unique` refuses them.

Pure, and linear in the length of the text. JSON that stands inside a decoded string is as foreign
as the first: it goes through this door again.
"""

from __future__ import annotations

import json
import math
import re
from functools import cache
from typing import Any, NoReturn

DEPTH = 200
"""Deepest nesting; deeper values would break whoever writes them out again."""
INNER_DEPTH = 64
"""Deepest nesting of a record, and of JSON that stands inside another JSON's string."""
_DIGITS = 308  # of an integer: one more may be beyond what a float can hold
# A list or object of 2 bytes is 70 to 250 bytes in memory, and more in all that is made of it.
_CONTAINERS, _BYTES_A_CONTAINER = 100_000, 32
_VALUES, _BYTES_A_VALUE = 1_000_000, 8

_SURROGATE = re.compile("[\ud800-\udfff]")
_STRINGS = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class OutsideError(ValueError):
    """JSON that is not taken; the message is one sentence that says why, or which bound it is."""

    def __init__(self, reason: str, field: str | None = None, line: int | None = None) -> None:
        """Keep the sentence; the field at fault, and the line of the text, where known."""
        super().__init__(reason)
        self.reason, self.field, self.line = reason, field, line


class TwiceError(OutsideError):
    """An object gives a key twice; `field` is the key."""


def decode(
    data: bytes | str,
    *,
    depth: int = DEPTH,
    repair: bool = False,
    unique: bool = False,
    first: bool = False,
) -> Any:
    """Decode one JSON value.

    Args:
        data: Its text; bytes are UTF-8, with or without a byte order mark.
        depth: Deepest nesting.
        repair: Take bytes that are not UTF-8 and lone surrogates as U+FFFD, and NaN, infinities
            and numbers beyond floats as null, rather than refuse the value.
        unique: Refuse an object that gives a key twice.
        first: Take the value that the text begins with, whatever follows it.

    Raises:
        OutsideError: It is not JSON, or not within the bounds.
    """
    text = data if isinstance(data, str) else _text(data, repair)
    _bounded(text)
    try:
        decoder = _decoder(repair, unique)
        value = decoder.raw_decode(text)[0] if first else decoder.decode(text)
    except json.JSONDecodeError as e:
        line = f"line {e.lineno}, " if "\n" in text else ""
        raise OutsideError(
            f"Not valid JSON: {e.msg} ({line}column {e.colno}).", line=e.lineno
        ) from None
    except RecursionError:
        raise _too_deep(depth) from None
    if text.count("[") + text.count("{") > depth and _deeper_than(value, depth):
        raise _too_deep(depth)
    if "\\ud" in text or "\\uD" in text or (isinstance(data, str) and not _encodes(data)):
        return _scrubbed(value) if repair else _without_surrogates(value)
    return value


@cache
def _decoder(repair: bool, unique: bool) -> json.JSONDecoder:
    return json.JSONDecoder(
        parse_constant=_null if repair else _refuse,
        parse_float=_finite_or_null if repair else _finite,
        parse_int=_whole_or_null if repair else _whole,
        object_pairs_hook=_unique if unique else None,
    )


def finite(value: object) -> float | None:
    """A JSON number as a finite float; None for anything else, booleans included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def whole(value: object, digits: int = 16) -> int | None:
    """An integer, also one written as text of at most so many ASCII digits; None for others."""
    if isinstance(value, str):
        body = value[1:] if value[:1] == "-" else value
        good = body.isascii() and body.isdigit() and len(body) <= digits
        return int(value) if good else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(data: bytes, repair: bool) -> str:
    try:
        return data.decode("utf-8-sig", "replace" if repair else "strict")
    except UnicodeDecodeError as e:
        raise OutsideError(f"Not valid UTF-8 (byte {e.start + 1} of the text).") from None


def _bounded(text: str) -> None:
    """Refuse, before anything is built, what would become too many objects."""
    containers = _CONTAINERS + len(text) // _BYTES_A_CONTAINER
    values = _VALUES + len(text) // _BYTES_A_VALUE
    many, more = text.count("[") + text.count("{"), text.count(",")
    if many <= containers and more <= values:
        return
    bare = _STRINGS.sub("", text)  # brackets and commas inside strings are no objects
    if bare.count("[") + bare.count("{") > containers:
        raise OutsideError(
            f"Holds more than {containers} lists and objects, the bound for {len(text)} characters."
        )
    if bare.count(",") > values:
        raise OutsideError(
            f"Holds more than {values} values, the bound for {len(text)} characters."
        )


def _too_deep(depth: int) -> OutsideError:
    return OutsideError(f"Nested more than {depth} levels deep.")


def _deeper_than(value: object, limit: int) -> bool:
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _null(_: str) -> None:
    return None


def _refuse(name: str) -> NoReturn:
    raise OutsideError(f"{name} is not JSON.")


def _finite_or_null(digits: str) -> float | None:
    value = float(digits)
    return value if math.isfinite(value) else None


def _finite(digits: str) -> float:
    if (value := _finite_or_null(digits)) is None:
        raise OutsideError(f"The number {digits[:40]} is too large.")
    return value


def _whole_or_null(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS else None


def _whole(digits: str) -> int:
    if len(digits) > _DIGITS:
        raise OutsideError("Holds an integer with too many digits.")
    return int(digits)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            name = _SURROGATE.sub("\ufffd", key[:40])
            raise TwiceError(f"Gives {name!r} twice.", name)
        found[key] = value
    return found


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [_scrubbed(v) for v in value]
    if isinstance(value, dict):
        return {_scrubbed(k): _scrubbed(v) for k, v in value.items()}
    return value


def _without_surrogates(value: Any) -> Any:
    """The value, unless half of a surrogate pair is in it: JSON allows it, no file takes it."""
    parts = value.items() if isinstance(value, dict) else [("the value", value)]
    for key, part in parts:
        if not _whole_text([key, part]):
            name = _SURROGATE.sub("\ufffd", key)
            raise OutsideError(f"`{name}` holds a lone surrogate, which is not a character.", name)
    return value


def _whole_text(value: Any) -> bool:
    todo = [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            if _SURROGATE.search(item):
                return False
        elif isinstance(item, list):
            todo += item
        elif isinstance(item, dict):
            todo += item.keys()
            todo += item.values()
    return True
