"""What Python holds, as what the database can hold.

Contract: total. Any text, any JSON value and any aware time an import can produce has a stored
form; what UTF-8, JSON or SQL cannot express is replaced in place, never refused. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

_SURROGATES = re.compile("[\ud800-\udfff]")


def storable(text: str) -> str:
    """Return the text with lone surrogates, which UTF-8 cannot hold, as U+FFFD.

    One for one, so character offsets stay valid. NUL and control characters are kept.
    """
    return _SURROGATES.sub("\ufffd", text)


def json_text(value: object) -> str:
    """Return JSON text with sorted keys; NaN and infinities become null, unknown objects text."""
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        text = json.dumps(_finite(value), sort_keys=True, ensure_ascii=False, default=str)
    return storable(text)


def utc(moment: datetime) -> datetime:
    """Express an aware time in UTC, without its zone, as the database stores it."""
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone")
    return moment.astimezone(UTC).replace(tzinfo=None)


def to_arrow(data_type: str, values: Sequence[Any]) -> Any:
    """Convert one column for the type (`VARCHAR`, ...) it has in the database."""
    arrow_type, convert = _TYPES[data_type]
    if convert is not None:
        values = [None if value is None else convert(value) for value in values]
    return pa.array(values, arrow_type)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# Offsets of 64 bits: the texts of one column can exceed 2 GiB.
_TYPES: dict[str, tuple[Any, Callable[[Any], Any] | None]] = {
    "VARCHAR": (pa.large_string(), storable),
    "JSON": (pa.large_string(), json_text),
    "TIMESTAMP": (pa.timestamp("us"), utc),
    "INTEGER": (pa.int32(), None),
    "BIGINT": (pa.int64(), None),
    "DOUBLE": (pa.float64(), None),
    "BOOLEAN": (pa.bool_(), None),
}
