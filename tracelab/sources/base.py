"""What every importer promises: traces, and a `Reject` for each record it cannot use.

    @SOURCES.register("mine")
    class Mine(SourceFormat):
        suffixes = (".mine",)

        @staticmethod
        def sniff(head: Head) -> bool:
            return head.start.startswith(b"MINE")

        @staticmethod
        def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
            ...

An importer streams: it never holds a file that may be large. A bad record never ends the file and
is never dropped silently; a file that cannot be read at all raises `ImportFormatError` before any
of it is used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from tracelab.core.errors import ImportFormatError, PlanError, one_line
from tracelab.core.outside import OutsideError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.files.sniff import Head

EXCERPT_CHARS = 200
_MOST_SAID = 80


class BadRecordError(Exception):
    """A record cannot be used; the message is the reject's reason."""

    def __init__(self, reason: str, field: str | None = None) -> None:
        """Keep the reason and the field at fault."""
        super().__init__(reason)
        self.reason, self.field = reason, field


def caught(
    make: Callable[[], Trace | Reject],
    file: str,
    line: int = 0,
    start: bytes | str = "",
    place: str = "",
) -> Trace | Reject:
    """The net around one record: what comes of reading it, or a reject whatever goes wrong.

    A reader that stumbles over a record nobody thought of must not take the others with it.

    Args:
        make: Reads the record.
        file: The file, as it was named.
        line: Its line, 0 where it stands on none.
        start: Its beginning.
        place: Where in the file it is, before the reason.
    """
    try:
        return make()
    except Exception as e:
        return refused(e, file, line, start, place)


def refused(
    error: Exception, file: str, line: int = 0, start: bytes | str = "", place: str = ""
) -> Reject:
    """The reject that an exception makes of a record; its reason names the kind of exception."""
    field = None
    if isinstance(error, BadRecordError | OutsideError):
        reason, field = error.reason, error.field
    elif isinstance(error, PlanError | ImportFormatError):
        reason = str(error)
    elif isinstance(error, MemoryError):
        reason = "It needs more memory than there is (MemoryError)."
    elif isinstance(error, RecursionError):
        reason = "It is nested too deep (RecursionError)."
    else:
        said = _plain(one_line(error, _MOST_SAID))
        kind = type(error).__name__
        why = kind if said == kind else f"{kind}: {said}"
        reason = f"It is not what a record of this format is like ({why})."
    return Reject(file, line, f"{place}: {reason}" if place else reason, excerpt(start), field)


@dataclass(slots=True)
class Seen:
    """The content and ids already imported, to tell duplicates; one for a whole import.

    A run that was recorded before somebody scored it and again after is no duplicate: the second
    one says more, and takes the place of the first (`better` holds the ids of those).
    """

    contents: dict[str, tuple[str, int, bool]] = field(default_factory=dict)
    better: set[str] = field(default_factory=set)
    columns: Mapping[str, str] = field(default_factory=dict)
    """What the user said columns are called, by their names here."""
    by_record: bool = False
    """Whether formats are guessed, so that each record may be of another."""
    alone: Sequence[tuple[str, type[SourceFormat]]] = ()
    """Formats whose records stand alone, in the order they are asked; filled when first asked."""
    ids: dict[tuple[str, str], int] = field(default_factory=dict)

    def duplicate_of(self, trace: Trace, file: str, line: int, record_id: str | None) -> str | None:
        """Say what a trace duplicates, or remember it and return None.

        Ids are unique in a file, content (turns, rendering and model) in the whole import.
        """
        if record_id is not None and (file, record_id) in self.ids:
            return f"Duplicate of line {self.ids[file, record_id]}: the same id {record_id!r}."
        key, told = trace.trace_id, trace.outcome_known
        if key in self.contents and (self.contents[key][2] or not told):
            other, at, _ = self.contents[key]
            place = other if at == 0 else f"line {at}" if other == file else f"{other} line {at}"
            return f"Duplicate of {place}: the same turns and model."
        if key in self.contents:
            self.better.add(key)
        self.contents[key] = (file, line, told)
        if record_id is not None:
            self.ids[file, record_id] = line
        return None


class SourceFormat(ABC):
    """One format. The first line of a subclass's docstring is what lists say about it."""

    suffixes: ClassVar[tuple[str, ...]] = ()
    """What names of its files end in, lower case; of a folder, only those are read."""
    scored_later: ClassVar[bool] = False
    """Whether scoring runs writes another log of them, so that two files may hold one run."""

    @staticmethod
    @abstractmethod
    def read(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
        """Yield the traces and rejects of a path that has this format.

        Args:
            path: A file, or one of `folders`.
            seen: What this import has read so far, to tell duplicates; None starts anew.

        Raises:
            ImportFormatError: Nothing of it can be read.
        """

    @staticmethod
    def one(record: Any, path: Path, number: int, /) -> Iterator[Trace]:
        """The traces of one record, of a format whose records stand alone.

        Files of such formats may hold records of the others among them.

        Args:
            record: Its JSON value.
            path: The file.
            number: The record's number in it, from 1.
        """
        raise NotImplementedError

    @staticmethod
    def sniff(head: Head) -> bool:
        """Whether a file is of this format, by how it starts."""
        return False

    @staticmethod
    def folders(path: Path) -> Iterator[Path]:
        """Folders at or below a folder that are one record each; none for a format of files."""
        return iter(())

    @classmethod
    def about(cls) -> str:
        """One line on what it is."""
        return (cls.__doc__ or "").strip().partition("\n")[0]


def report_rejects(rejects: Sequence[Reject], say: Callable[[str], object], most: int = 5) -> None:
    """Say what was rejected and why, in a few lines however many they are."""
    for reject in rejects[:most]:
        say(f"rejected: {reject}")
    if len(rejects) > most:
        say(f"rejected: {len(rejects) - most} more")


def excerpt(raw: bytes | str) -> str:
    """Return the beginning of a record, safe to store and print."""
    if isinstance(raw, bytes):
        raw = raw[: 4 * EXCERPT_CHARS].decode("utf-8", "replace")
    return _plain(raw[:EXCERPT_CHARS])


def _plain(text: str) -> str:
    """Without lone surrogates, which no database takes."""
    return text.encode("utf-8", "replace").decode("utf-8")
