"""A file as JSON records, however they stand in it: one a line, an array, one or several documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.sources.agent_json import BadRecordError, parse_json
from tracelab.sources.agent_log import documents
from tracelab.sources.sniff import Head

Record = tuple[int, Any, bytes]
"""Number from 1, the value or why there is none, and the bytes (of a line) or the beginning."""


def records(path: Path) -> Iterator[Record]:
    """Yield the records of a file; a document that is a list holds one an entry.

    Raises:
        ImportFormatError: The file cannot be opened.
    """
    head = Head.of(path)
    for number, data, problem in documents(path, lines=head.by_line):
        value: Any
        try:
            if problem:
                raise BadRecordError(problem)
            value = parse_json(data)
        except BadRecordError as e:
            yield number, e, data
            continue
        if isinstance(value, list) and not head.by_line:
            for n, one in enumerate(value, 1):
                yield n, one, json.dumps(one, ensure_ascii=False).encode("utf-8", "replace")
        else:
            yield number or 1, value, data
