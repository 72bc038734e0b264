"""What a caller hands over becomes a file that runs read.

Data in memory are written to `inputs/` in the home, under a name that is their content's hash: the
same data are the same source, so that asking twice resumes a run instead of starting another.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.core.hashing import content_hash
from tracelab.core.outside import OutsideError, decode
from tracelab.store.home import Home

Record = Mapping[str, Any]
Data = str | Path | Record | Sequence[Record] | Sequence[str] | Sequence[Path]
"""A path (or several, for agent logs), `testbed`, JSON text, a record, or a list of records."""


def place(data: Data, home: Home, *, documents: bool = False) -> tuple[str, bool]:
    """Where a run finds some data.

    Args:
        data: What the caller gave.
        home: Data in memory are kept there.
        documents: Each record is a document of its own (agent logs) rather than a line.

    Returns:
        The source, several paths separated by line breaks, and whether it was in memory.

    Raises:
        ConfigError: It is neither paths nor JSON records.
    """
    if isinstance(data, Path):
        return str(data), False
    if isinstance(data, str):
        text = data.strip()
        if not text.startswith("{") and "\n" not in text:
            return data, False
        return _keep(_parsed(text), home, documents), True
    if isinstance(data, Mapping):
        return _keep([data], home, documents), True
    if not isinstance(data, Sequence) or isinstance(data, bytes):
        raise ConfigError(f"data are a path, a record or a list of records, not {_kind(data)}")
    if not data:
        raise ConfigError("the list of records is empty")
    if all(isinstance(d, str | Path) for d in data):
        return "\n".join(str(d) for d in data), False
    return _keep([_record(i, d) for i, d in enumerate(data)], home, documents), True


def keep_text(text: str, home: Home, *, documents: bool = False) -> str:
    """Write JSON text, one object over any lines or one a line, where the runs find it.

    Args:
        text: The text.
        home: Where it is kept.
        documents: Each record is a document of its own (agent logs) rather than a line.

    Returns:
        The source.

    Raises:
        ConfigError: It holds no JSON objects.
    """
    if not (records := _parsed(text.strip())):
        raise ConfigError("there is no record in it")
    return _keep(records, home, documents)


def with_target(source: str, target: Any, home: Home) -> str:
    """The same records, all with one `target`."""
    lines = Path(source).read_text(encoding="utf-8").splitlines()
    return _keep([decode(line) | {"target": target} for line in lines], home, False)


def _record(i: int, value: object) -> Record:
    if not isinstance(value, Mapping):
        raise ConfigError(f"record {i} of the list is {_kind(value)}, not a dict")
    return value


def _parsed(text: str) -> list[Record]:
    """One JSON object over any lines, or one a line."""
    try:
        value = decode(text)
    except OutsideError:
        value = None
    if isinstance(value, dict):
        return [value]
    found: list[Record] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            value = decode(line)
        except OutsideError as e:
            raise ConfigError(f"the text is not JSON (line {number}: {e})") from None
        if not isinstance(value, dict):
            raise ConfigError(f"line {number} of the text is {_kind(value)}, not a JSON object")
        found.append(value)
    return found


def _keep(records: Sequence[Record], home: Home, documents: bool) -> str:
    if not documents:  # a name of its own rather than that of a file nobody knows
        records = [{"id": f"record-{i}"} | dict(r) for i, r in enumerate(records)]
    lines = [_line(i, r) for i, r in enumerate(records)]
    home.require_writable()
    folder = home.path / "inputs"
    target = folder / content_hash([documents, *lines])[:12]
    if documents:
        for i, line in enumerate(lines):
            _write(target / f"record-{i}.json", line)
        return str(target)
    _write(target.with_suffix(".jsonl"), "".join(line + "\n" for line in lines))
    return str(target.with_suffix(".jsonl"))


def _line(i: int, record: Record) -> str:
    try:
        return json.dumps(record, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as e:
        raise ConfigError(f"record {i} cannot be written as JSON ({e})") from None


def _plain(value: Any) -> Any:
    """Numbers of numpy and pandas as Python's; mappings as dicts."""
    if isinstance(value, Mapping):
        return dict(value)
    if callable(item := getattr(value, "item", None)):
        return item()
    raise TypeError(f"{_kind(value)} is not JSON")


def _write(path: Path, text: str) -> None:
    """The whole file or none; what is there already has the same content."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, suffix=".part", encoding="utf-8", delete=False
    ) as f:
        f.write(text)
    os.replace(f.name, path)


def _kind(value: object) -> str:
    return type(value).__name__
