"""A file as JSON records, however they stand in it: lines, an array, one or several documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracelab.core.outside import decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.base import EXCERPT_CHARS, BadRecordError, Seen, refused
from tracelab.sources.files.columns import renamed
from tracelab.sources.files.guess import foreign
from tracelab.sources.files.lines import MAX_LINE_BYTES, FileLine, read_lines
from tracelab.sources.files.sniff import BETWEEN, Head
from tracelab.sources.files.unpack import UnpackError, read_whole

MAX_FILE_BYTES = 256 << 20
Record = tuple[int, Any, bytes | str]
"""Number from 1, the value or the exception that says why there is none, and the beginning."""


def records(path: Path) -> Iterator[Record]:
    """Yield the records of a file; a document that is a list holds one an entry.

    Raises:
        ImportFormatError: The file cannot be opened.
    """
    by_line = Head.of(path).by_line
    for number, data, problem in documents(path, lines=by_line):
        try:
            if problem:
                raise BadRecordError(problem)
            value = decode(data, repair=True)
        except Exception as e:
            yield number, e, data
            continue
        if isinstance(value, list) and not by_line:
            for n, one in enumerate(value, 1):
                yield n, one, json.dumps(one)[:EXCERPT_CHARS]
        else:
            yield number or 1, value, data


def record_lines(
    path: Path,
    limit: int = MAX_LINE_BYTES,
    inside: Callable[[Any], Iterator[Any]] | None = None,
) -> Iterator[FileLine]:
    """The records of a file as lines, numbered from 1, whether they stand on lines or not.

    Args:
        path: The file.
        limit: Longest line of a file of lines, bytes.
        inside: The records that a value of a file that is not one of lines holds.

    Raises:
        ImportFormatError: The file cannot be opened.
    """
    head = Head.of(path)
    if head.by_line or (head.data is None and not head.cut):
        yield from read_lines(path, limit)
        return
    count = 0
    for number, value, data in records(path):
        if isinstance(value, Exception):
            count += 1
            raw = data.encode() if isinstance(data, str) else data
            yield FileLine(number or 1, raw[:EXCERPT_CHARS], str(value))
        elif inside is None:
            yield FileLine(number, json.dumps(value).encode())
        else:
            for one in inside(value):
                count += 1
                yield FileLine(count, json.dumps(one).encode())


def traces_of_records(
    path: Path,
    seen: Seen | None,
    make: Callable[[dict[str, Any], Path, int], Iterator[Trace]],
    mine: str,
) -> Iterator[Trace | Reject]:
    """Yield the traces that `make` makes of each record, or its reject.

    Args:
        path: The file.
        seen: What the import has read so far.
        make: From a record, the file and the record's number; raises `BadRecordError`.
        mine: Name of the format.
    """
    seen = Seen() if seen is None else seen
    for number, record, start in records(path):
        try:
            if isinstance(record, Exception):
                raise record
            if not isinstance(record, dict):
                raise BadRecordError("The record is not a JSON object.")
            if (others := foreign(record, mine, path, number, seen)) is not None:
                yield from others
                continue
            record = renamed(record, seen.columns, mine)
            for trace in make(record, path, number):
                if duplicate := seen.duplicate_of(trace, str(path), number, None):
                    raise BadRecordError(duplicate)
                yield trace
        except Exception as e:
            yield refused(e, str(path), number, start)


def documents(path: Path, *, lines: bool) -> Iterator[tuple[int, bytes, str | None]]:
    """Yield (number, bytes, problem) of each document.

    One a line, numbered so; else the whole file as 0, or documents that were printed over several
    lines and stand one after another, from 1.
    """
    if lines:
        for line in read_lines(path, MAX_LINE_BYTES):
            yield line.number, line.data, line.problem
        return
    try:
        data = read_whole(path, MAX_FILE_BYTES)
    except UnpackError as e:
        yield 0, b"", f"The file {e}."
        return
    at, number = 0, 0
    for between in BETWEEN.finditer(data):
        number += 1
        yield number, data[at : between.start()], None
        at = between.end() - 1
    yield number + 1 if number else 0, data[at:], None
