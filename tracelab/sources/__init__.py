"""Importers: files and folders into traces. `read` finds out which importer a path needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tracelab.core.errors import ConfigError, ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.base import Seen, SourceFormat, refused
from tracelab.sources.files.columns import ROWS, check_columns
from tracelab.sources.files.lines import first_bytes
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head, damaged
from tracelab.sources.registry import SOURCES

__all__ = ["SOURCES", "Reject", "read", "read_last"]

AUTO = "auto"
"""Chooses a format by what a file holds."""

PathLike = str | Path
Planned = tuple[type[SourceFormat], Path] | Reject


def read(
    paths: PathLike | Sequence[PathLike],
    format: str = AUTO,
    columns: Mapping[str, str] | None = None,
) -> Iterator[Trace | Reject]:
    """Read traces from files and folders.

    Args:
        paths: One or several: `.jsonl` files (plain or gzip), agent logs, folders of them,
            published Thought Anchors folders.
        format: A name in `SOURCES`, or `auto`.
        columns: What a data set calls its columns, by the names of `columns.NAMES`; with them
            files are rows, whatever they look like.

    Returns:
        The traces, and a reject for each record that could not be used, in order. A trace comes
        twice where the first has no outcome and the second has one. A path that cannot be read at
        all is an error at once, before anything is imported.

    Raises:
        ConfigError: No importer has this name.
        ImportFormatError: A path is missing, empty, or of no known format.
    """
    source = _source(format, columns)
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = [item for path in given for item in _plan(Path(path), source)]
    return _run(found, Seen(by_record=source is None, columns=columns or {}))


def _source(format: str, columns: Mapping[str, str] | None) -> type[SourceFormat] | None:
    """The format that was said; None where it is to be found out."""
    if columns:
        check_columns(columns)
        if format not in (AUTO, *ROWS):
            raise ConfigError(f"columns are of rows; the {format} format has none")
        format = ("contexts" if "context" in columns else ROWS[0]) if format == AUTO else format
    return None if format == AUTO else SOURCES.named(format)


def read_last(
    paths: Sequence[PathLike], format: str = AUTO, columns: Mapping[str, str] | None = None
) -> Iterator[Trace | Reject]:
    """The same, each trace once, for who cannot change what was taken.

    Where a tool writes another log when runs are scored (`SourceFormat.scored_later`), the log that
    has the outcome counts, wherever it stands; such files are read twice. Elsewhere the first does,
    and one that comes again with an outcome is a reject that says so.
    """
    source = _source(format, columns)
    found = [item for path in paths for item in _plan(Path(path), source)]
    again = [item for item in found if not isinstance(item, Reject) and item[0].scored_later]
    first, seen = (Seen(by_record=source is None, columns=columns or {}) for _ in range(2))
    for _ in _run(again if len(again) > 1 else [], first):
        pass
    return _once(_run(found, seen), first.better)


def _once(found: Iterator[Trace | Reject], better: set[str]) -> Iterator[Trace | Reject]:
    """Without the traces that a `better` one replaces."""
    given: set[str] = set()
    for item in found:
        if isinstance(item, Trace):
            if item.trace_id in better and not item.outcome_known:
                continue
            if item.trace_id in given:
                why = (
                    "The same turns and model came before, without an outcome; put this one first."
                )
                yield Reject(item.source, item.line, why, "")
                continue
            given.add(item.trace_id)
        yield item


def _run(found: Sequence[Planned], seen: Seen) -> Iterator[Trace | Reject]:
    for item in found:
        if isinstance(item, Reject):
            yield item
            continue
        source, path = item
        try:
            yield from source.read(path, seen)
        except ImportFormatError as e:
            if len(found) == 1:
                raise
            yield refused(e, str(path))
        except Exception as e:  # the other files can be read
            yield refused(e, str(path), place="The file is read up to here")


def _plan(path: Path, source: type[SourceFormat] | None) -> list[Planned]:
    """List what to read at a path, and with what."""
    try:
        if path.is_dir():
            return _plan_folder(path, source)
        if path.is_file():
            return [(_sniff(path, source), path)]
        exists = path.exists()
    except (OSError, ValueError) as e:
        raise ImportFormatError(f"{path} cannot be read ({e}).") from None
    if exists:
        raise ImportFormatError(f"{path} is neither a file nor a folder.")
    raise ImportFormatError(f"{path}: no such file or folder.")


def _plan_folder(path: Path, source: type[SourceFormat] | None) -> list[Planned]:
    sources = list(SOURCES.values()) if source is None else [source]
    found: list[Planned] = [(s, folder) for s in sources for folder in s.folders(path)]
    taken = {folder for item in found if isinstance(item, tuple) for folder in item[1:]}
    suffixes = tuple({suffix for s in sources for suffix in s.suffixes})
    for file in sorted(path.rglob("*")) if suffixes else ():
        name = file.name.lower()
        if not name.endswith(suffixes) or not file.is_file():
            continue
        if source is not None or name.endswith(LINES):
            maybe = False
        elif file.parent in taken:
            continue
        else:  # it may be something else, which is none of our business
            maybe = name.endswith(DOCUMENTS)
        if maybe and name.endswith(".json") and (why := damaged(file)):
            found.append(Reject(str(file), 0, why, ""))
            continue
        try:
            of = _sniff(file, source)
        except ImportFormatError as e:  # the other files of the folder can be read
            if not maybe:
                found.append(Reject(str(file), 0, str(e), ""))
            continue
        if name.endswith(of.suffixes):
            found.append((of, file))
    if not any(isinstance(item, tuple) for item in found):
        rejects = [item.reason for item in found if isinstance(item, Reject)]
        why = f": {rejects[0]}" if rejects else f"; tracelab reads {', '.join(SOURCES)}."
        raise ImportFormatError(f"{path} holds nothing that can be read{why}")
    return found


def _sniff(path: Path, source: type[SourceFormat] | None) -> type[SourceFormat]:
    """The format to read a file with."""
    start = first_bytes(path)
    if not start:
        raise ImportFormatError(f"{path} is empty.")
    if source is not None and not source.suffixes:
        name = next(name for name, s in SOURCES.items() if s is source)
        raise ImportFormatError(f"{path} is a file; the {name} format is a folder.")
    if source is not None:
        return source
    head = Head.of(path)
    if (found := next((s for s in SOURCES.values() if s.sniff(head)), None)) is not None:
        return found
    if isinstance(head.data, list) and head.data and isinstance(head.data[0], dict):
        inner = replace(head, data=head.data[0], start=b"{", by_line=True)
        if (found := next((s for s in SOURCES.values() if s.sniff(inner)), None)) is not None:
            return found
    names = ", ".join(SOURCES)
    raise ImportFormatError(f"{path} is of no format that tracelab reads ({names}){_holds(head)}.")


def _holds(head: Head) -> str:
    """What a file that nobody knows holds, where that helps to see why."""
    array = isinstance(head.data, list)
    one = head.data[0] if array and head.data else head.data
    if isinstance(one, dict):
        keys = ", ".join(repr(str(key)[:40]) for key in list(one)[:6]) or "none"
        return f"; the keys of its {'first entry' if array else 'first object'}: {keys}"
    return "; it holds a JSON array of no objects" if array else ""
