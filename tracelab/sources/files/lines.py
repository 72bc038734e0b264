"""A file as numbered lines of bytes: plain or gzip, any length, never held whole.

Knows nothing about what a line means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tracelab.core.errors import ImportFormatError, one_line
from tracelab.sources.files.unpack import BROKEN, UnpackError, open_bytes

MAX_LINE_BYTES = 64 << 20
_CHUNK = 1 << 20
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True, slots=True)
class FileLine:
    """One line without its line break; `problem` says why it is not usable as it stands."""

    number: int
    data: bytes
    problem: str | None = None


def first_bytes(path: Path) -> bytes:
    """Return what the file starts with after white space; empty when it holds nothing else.

    Raises:
        ImportFormatError: It cannot be opened or unpacked, or is UTF-16.
    """
    try:
        with open_bytes(path) as file:
            # read1: what comes before the place where a gzip stream breaks can be used.
            start = file.read1(_CHUNK)
            if start.startswith(_UTF16_BOMS):
                raise ImportFormatError(f"{path} is UTF-16; save it as UTF-8.")
            start = start.removeprefix(_UTF8_BOM).lstrip()
            while not start and (more := file.read1(_CHUNK)):
                start = more.lstrip()
            return start
    except BROKEN as e:
        raise ImportFormatError(f"{path} is not a complete gzip file ({one_line(e)}).") from None
    except UnpackError as e:
        raise ImportFormatError(f"{path} {e}.") from None
    except OSError as e:
        raise ImportFormatError(f"{path} cannot be read ({e.strerror or e}).") from None


def read_lines(path: Path, limit: int = MAX_LINE_BYTES) -> Iterator[FileLine]:
    """Yield the lines that are not blank.

    A line longer than `limit` is skipped without being held; where a gzip stream breaks, the last
    line says so.
    """
    number = 0
    with open_bytes(path) as file:
        while True:
            number += 1
            try:
                data = file.readline(limit + 1)
                if not data:
                    return
                problem = None
                if len(data) > limit and not data.endswith(b"\n"):
                    problem = f"The line is longer than {limit >> 20} MiB."
                    data = data[:_CHUNK]
                    while (more := file.readline(_CHUNK)) and not more.endswith(b"\n"):
                        pass
            except BROKEN as e:
                yield FileLine(number, b"", f"The gzip stream breaks here ({one_line(e)}).")
                return
            except UnpackError as e:
                yield FileLine(number, b"", f"The file {e}; it is read up to here.")
                return
            except OSError as e:
                yield FileLine(number, b"", f"The file cannot be read further ({e.strerror or e}).")
                return
            if number == 1:
                data = data.removeprefix(_UTF8_BOM)
            data = data.rstrip(b"\r\n")
            if problem or data.strip():
                yield FileLine(number, data, problem)
