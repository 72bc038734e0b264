"""How a file starts: what formats are recognised by. At most a megabyte is looked at."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracelab.core.outside import OutsideError, decode
from tracelab.sources.files.unpack import BROKEN, UnpackError, open_bytes

LINES = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")
"""Names of files of one record a line."""
DOCUMENTS = (".json", ".json.gz")
"""Names of files that may hold anything."""
BETWEEN = re.compile(rb"(?<=^\})[ \t]*\r?\n\s*\{", re.MULTILINE)
"""What stands between two documents that were printed over several lines, one after another."""
_TRIES = 5
_HEAD = 1 << 20


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a file.

    Attributes:
        name: The file's name, lower case.
        start: Its first bytes, unpacked, without byte order mark and white space; at most 1 MiB.
        data: The first JSON value: of the first lines, or of the whole document. None where there
            is none, or where the document is longer than `start`.
        by_line: Whether the file holds one record a line.
        cut: Whether the document is longer than `start`.
    """

    name: str
    start: bytes
    data: Any = None
    by_line: bool = False
    cut: bool = False

    @classmethod
    def of(cls, path: Path) -> Head:
        """Look at a file.

        Raises:
            ImportFormatError: It cannot be opened.
        """
        name, start = path.name.lower(), _head(path)
        by_line = name.endswith(LINES)
        if not start.startswith((b"{", b"[")):
            return cls(name, start, None, by_line)
        known = _parsed(start.split(b"\n", _TRIES)[:_TRIES] if by_line else [start])
        if known is None and not by_line and (between := BETWEEN.search(start)):
            known = _parsed([start[: between.start()]])
        if known is None and not by_line:
            known = _parsed(start.split(b"\n", 1)[:1])  # JSON lines under another name
            by_line = known is not None
        if known is not None:
            return cls(name, start, known[0], by_line)
        return cls(name, start, None, by_line, cut=len(start) >= _HEAD)

    @property
    def record(self) -> dict[str, Any]:
        """The first JSON value, if it is an object; else empty."""
        return self.data if isinstance(self.data, dict) else {}

    def shows(self, *patterns: bytes) -> bool:
        """Whether a document that is longer than what was read of it matches a pattern."""
        return self.cut and any(re.search(p, self.start, re.DOTALL) for p in patterns)


def damaged(path: Path) -> str | None:
    """Why a `.json` file holds no JSON at all: empty, or cut off. None for every other file.

    A folder of logs may hold other JSON, which may be passed over; a log that was cut off may not.
    """
    start = _head(path)
    if not start:
        return f"{path.name} is empty."
    whole = len(start) < _HEAD and start.startswith((b"{", b"["))
    lines = start.split(b"\n", 1)[:1]
    if whole and _parsed([start]) is None and _parsed(lines) is None:
        return f"{path.name} is not valid JSON; it may have been cut off."
    return None


def _head(path: Path) -> bytes:
    start = b""
    with contextlib.suppress(*BROKEN, UnpackError, OSError), open_bytes(path) as file:
        # read1: what comes before the place where a gzip stream breaks can be used.
        while len(start) < _HEAD and (more := file.read1(_HEAD)):
            start += more
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()


def _parsed(pieces: list[bytes]) -> tuple[Any] | None:
    for piece in pieces:
        try:
            return (decode(piece, repair=True),)
        except OutsideError:
            continue
    return None
