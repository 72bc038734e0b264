"""Importers: files and folders into traces. `read` finds out which importer a path needs."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from tracelab.core.errors import ConfigError, ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.atif import read_atif
from tracelab.sources.base import Importer, Seen
from tracelab.sources.inspect_log import read_inspect
from tracelab.sources.jsonl import read_jsonl
from tracelab.sources.lines import first_bytes
from tracelab.sources.openai_chat import read_openai_chat
from tracelab.sources.otel import read_otel
from tracelab.sources.sniff import agent_format, damaged
from tracelab.sources.thought_anchors import BASE, problem_folders, read_thought_anchors
from tracelab.sources.who_and_when import read_who_and_when

__all__ = ["FORMATS", "Importer", "Reject", "read"]

FORMATS: Mapping[str, Importer] = MappingProxyType(
    {
        "jsonl": read_jsonl,
        "thought-anchors": read_thought_anchors,
        "openai-chat": read_openai_chat,
        "otel": read_otel,
        "inspect": read_inspect,
        "atif": read_atif,
        "who-and-when": read_who_and_when,
    }
)
"""Every importer by name; `auto` chooses by content."""

_AGENT_FILES = (".json", ".json.gz", ".eval")
_JSONL = (".jsonl", ".ndjson", ".jsonl.gz", ".ndjson.gz")

PathLike = str | Path


def read(paths: PathLike | Sequence[PathLike], format: str = "auto") -> Iterator[Trace | Reject]:
    """Read traces from files and folders.

    Args:
        paths: One or several: `.jsonl` files (plain or gzip), agent logs, folders of them,
            published Thought Anchors folders.
        format: A name in `FORMATS`, or `auto`.

    Returns:
        The traces, and a reject for each record that could not be used, in order. A path that
        cannot be read at all is an error at once, before anything is imported.

    Raises:
        ConfigError: No importer has this name.
        ImportFormatError: A path is missing, empty, or of no known format.
    """
    if format != "auto" and format not in FORMATS:
        near = difflib.get_close_matches(format, ["auto", *FORMATS], n=1, cutoff=0.0)[0]
        raise ConfigError(f"There is no format {format!r}; the nearest is {near!r}.")
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    found = [item for path in given for item in _plan(Path(path), format)]
    return _run(found)


def _run(found: Sequence[tuple[Importer, Path] | Reject]) -> Iterator[Trace | Reject]:
    seen = Seen()
    for item in found:
        if isinstance(item, Reject):
            yield item
        else:
            importer, path = item
            yield from importer(path, seen)


def _plan(path: Path, format: str) -> list[tuple[Importer, Path] | Reject]:
    """List what to read at a path, and with what."""
    try:
        if path.is_dir():
            return _plan_folder(path, format)
        if path.is_file():
            return [(_sniff(path, format), path)]
        exists = path.exists()
    except (OSError, ValueError) as e:
        raise ImportFormatError(f"{path} cannot be read ({e}).") from None
    if exists:
        raise ImportFormatError(f"{path} is neither a file nor a folder.")
    raise ImportFormatError(f"{path}: no such file or folder.")


def _plan_folder(path: Path, format: str) -> list[tuple[Importer, Path] | Reject]:
    found: list[tuple[Importer, Path] | Reject] = []
    if format in ("auto", "thought-anchors"):
        found += [(read_thought_anchors, folder) for folder in problem_folders(path)]
    if format != "thought-anchors":
        suffixes = _JSONL if format == "jsonl" else (*_JSONL, *_AGENT_FILES)
        for file in sorted(path.rglob("*")):
            name = file.name.lower()
            if not name.endswith(suffixes) or not file.is_file():
                continue
            maybe = format == "auto" and name.endswith(_AGENT_FILES)
            if maybe and (file.parent / BASE).is_file():
                continue  # a file of a Thought Anchors folder
            if maybe and name.endswith(".json") and (why := damaged(file)):
                found.append(Reject(str(file), 0, why, ""))
                continue
            try:
                importer = _sniff(file, format)
            except ImportFormatError as e:  # the other files of the folder can be read
                if not maybe or name.endswith(".eval"):
                    found.append(Reject(str(file), 0, str(e), ""))
                continue
            if importer is not read_jsonl or not maybe:
                found.append((importer, file))
    if not any(isinstance(item, tuple) for item in found):
        rejects = [item.reason for item in found if isinstance(item, Reject)]
        why = f": {rejects[0]}" if rejects else "; tracelab reads .jsonl, .jsonl.gz, agent logs and"
        tail = "" if rejects else " published Thought Anchors folders."
        raise ImportFormatError(f"{path} holds nothing that can be read{why}{tail}")
    return found


def _sniff(path: Path, format: str) -> Importer:
    start = first_bytes(path)
    if not start:
        raise ImportFormatError(f"{path} is empty.")
    if format == "thought-anchors":
        raise ImportFormatError(f"{path} is a file; the thought-anchors format is a folder.")
    if format not in ("auto", "jsonl"):
        return FORMATS[format]
    if format == "auto" and (agent := agent_format(path)):
        return FORMATS[agent]
    if format == "jsonl" or path.name.lower().endswith(_JSONL) or start.startswith(b"{"):
        return read_jsonl
    if start.startswith(b"["):
        raise ImportFormatError(f"{path} holds a JSON array; write one record a line (JSONL).")
    names = ", ".join(FORMATS)
    raise ImportFormatError(f"{path} is of no format that tracelab reads ({names}).")
