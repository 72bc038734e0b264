"""Files that say whether they are whole: a digest in a part's name, or in the file itself.

    observations/part-<random>-<digest>.parquet   blake2b of its bytes
    *.json                                        `checksum`: blake2b of the document without it
    *.jsonl                                       the last line: blake2b of all lines before it

A digest is part of what is written in one go, so it needs no rename and no second file, and holds
on any file system. What was written before there were digests has none: it is read, and counts as
unverified. What fits no digest is damaged, whatever it may still look like. Knows no file system.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from tracelab.core.errors import DamagedError

_BYTES = 16
_FORMAT, _CHECKSUM = "format", "checksum"
_VERSION = 2
_HEAD = json.dumps({_FORMAT: _VERSION}).encode() + b"\n"
_TAIL = re.compile(rb'\{"checksum": "(?P<digest>[0-9a-f]{32})"\}\n')
_PART = re.compile(r"(?:.*/)?part-[0-9a-f]{32}-(?P<digest>[0-9a-f]{32})\.parquet")

UNFIT = "its checksum does not fit what it holds"


def digest(data: bytes) -> str:
    """Digest of bytes, 32 hexadecimal digits."""
    return blake2b(data, digest_size=_BYTES).hexdigest()


def digest_in(name: str) -> str | None:
    """The digest that a part's name has; None for one that was written before parts had digests."""
    found = _PART.fullmatch(name)
    return None if found is None else found["digest"]


def sealed(document: Mapping[str, Any]) -> bytes:
    """A JSON document with its checksum."""
    whole = {**document, _FORMAT: _VERSION}
    return json.dumps({**whole, _CHECKSUM: _checksum(whole)}, indent=1, sort_keys=True).encode()


def opened(data: bytes) -> tuple[dict[str, Any], bool]:
    """A document that `sealed` made, or one of before; and whether its checksum was verified.

    Raises:
        DamagedError: It is neither; the message says why.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise DamagedError("it is not JSON") from None
    if not isinstance(document, dict):
        raise DamagedError("it is not a JSON object")
    said = document.pop(_CHECKSUM, None)
    if said is None and _FORMAT not in document:
        return document, False
    if said != _checksum(document):
        raise DamagedError(UNFIT)
    document.pop(_FORMAT, None)
    return document, True


def _checksum(document: Mapping[str, Any]) -> str:
    try:
        return digest(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())
    except RecursionError:
        raise DamagedError("it is nested too deep") from None


def sealed_lines(rows: Iterable[Any]) -> Iterator[bytes]:
    """JSON Lines between a first line that says that there is a last one, and that last one."""
    sum_ = blake2b(_HEAD, digest_size=_BYTES)
    yield _HEAD
    for row in rows:
        line = json.dumps(row).encode() + b"\n"
        sum_.update(line)
        yield line
    yield json.dumps({_CHECKSUM: sum_.hexdigest()}).encode() + b"\n"


@dataclass(frozen=True, slots=True)
class Lines:
    """Which lines of a file are rows, `[first, last)`, and whether they were verified."""

    first: int
    last: int
    verified: bool


def verify_lines(lines: Iterable[bytes]) -> Lines:
    """Look through a file that `sealed_lines` made, or one of before.

    Raises:
        DamagedError: It is neither; the message says why.
    """
    sum_ = blake2b(digest_size=_BYTES)
    count, headed, last = 0, False, b""
    for line in lines:
        if count:
            sum_.update(last)
        else:
            headed = line == _HEAD
        last, count = line, count + 1
    if not count:
        raise DamagedError("it is empty")
    tail = _TAIL.fullmatch(last)
    if tail is None:
        if headed:
            raise DamagedError("its end is missing")
        return Lines(0, count, verified=False)
    if tail["digest"].decode() != sum_.hexdigest():
        raise DamagedError(UNFIT)
    return Lines(1, count - 1, verified=True)


def row_of(line: bytes, number: int) -> Any:
    """One line's value.

    Raises:
        DamagedError: It is not JSON; the message has the line's number, counted from 1.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise DamagedError(f"line {number} is not JSON") from None
