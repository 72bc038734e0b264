"""The durable record of a run: what was asked, and every observation, as it arrives.

    <run>/run.json              the resolved config, its digest, versions
    <run>/cases.jsonl           traces with their tokens; inputs that were not studied, and why
    <run>/observations/*.parquet   one part a flush; never rewritten
    <run>/parts.json            the parts there were when the run was last closed, and their sizes
    <run>/sessions/*.json       what each invocation that worked on the run has cost
    <run>/**/*.damaged          what was found damaged, for a person to look at; never read

Nothing else is kept: what a study concludes is a function of these. Parts are atomic, so a
crash loses at most the observations of the last unflushed moments, and those are asked again
under the same keys and seeds. Atomic is not intact: every file carries a digest
(`tracelab.store.sealed`) that is verified whenever it is read, and a part that is not what was
written is set aside, said, and owed again. One process writes a journal at a time (an flock, which
dies with its process).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import json
import logging
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracelab.core.errors import DamagedError, TracelabError, one_line
from tracelab.core.item import FinishReason, Observation
from tracelab.core.secrets import hidden, redacted, redacted_json
from tracelab.store.files import Store
from tracelab.store.part_index import PartIndex
from tracelab.store.sealed import (
    UNFIT,
    Lines,
    digest,
    digest_in,
    opened,
    row_of,
    sealed,
    sealed_lines,
    verify_lines,
)
from tracelab.store.spent import Total

log = logging.getLogger(__name__)

RECORD, PARTS = "run.json", "parts.json"
PAID = "paid.jsonl"
"""What endpoints answered since the last part: it was paid for, so no crash may cost it."""
OBSERVATIONS, SESSIONS, DAMAGED = "observations", "sessions", ".damaged"

_DECODED = 4
"""Parts kept decoded: a part holds a thousand rollouts or so, some megabytes."""

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("replicate", pa.int32()),
        ("token_ids", pa.list_(pa.int32())),
        ("text", pa.binary()),
        ("finish_reason", pa.string()),
        ("token_logprobs", pa.list_(pa.float64())),
        ("prefix_tokens", pa.int32()),
        ("cached_tokens", pa.int32()),
        ("error", pa.string()),
    ]
)
_ENDPOINT = pa.field("endpoint", pa.binary())
"""A column of parts in which an endpoint answered."""


class Journal:
    """One run's journal."""

    _lock: IO[str] | None = None
    _paid: PaidAnswers | None = None

    def __init__(
        self,
        root: str,
        run_id: str,
        *,
        flush_rows: int = 1024,
        flush_seconds: float = 3.0,
        warn: Callable[[str], object] = log.warning,
    ) -> None:
        """Open (and lock) the journal of a run.

        Args:
            root: Folder or fsspec URL that holds the journals.
            run_id: The run.
            flush_rows: Observations kept in memory before a part is written.
            flush_seconds: Longest time that an observation waits for a part, as long as others
                keep arriving: what a crash can cost.
            warn: Told what is damaged.

        Raises:
            TracelabError: Another live process is working on this run.
        """
        self._prepare(root, run_id, warn)
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._flushed = time.monotonic()
        if self.store.is_local:
            self._lock = _lock(self.store.path("lock"), run_id)
            self.store.sweep()
            self._paid = PaidAnswers(self.store.path(PAID))
            self._recover()

    def _prepare(self, root: str, run_id: str, warn: Callable[[str], object]) -> None:
        self.store = Store(f"{root.rstrip('/')}/{run_id}")
        self.run_id = run_id
        self.lost: list[str] = []
        """Files that were found damaged or gone; who deals with that empties it."""
        self.warn = warn
        self._rows: list[Observation] = []
        self._waiting: dict[str, list[Observation]] = {}
        self._index = PartIndex()
        self._decoded: OrderedDict[str, list[Observation]] = OrderedDict()
        self._sizes: dict[str, int] = {}
        self._listed: dict[str, int] | None = None
        self._unread = True
        self.durable = Total()
        """What the observations have cost that this process made durable."""
        self.watch: Callable[[], None] = lambda: None
        """Called before and after parts are written."""

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a small JSON document, with its checksum."""
        self.store.write(name, sealed(redacted_json(value)))

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Read it back; None if it is not there.

        Raises:
            DamagedError: It is not what was written.
        """
        data = self.store.read(name)
        if data is None:
            return None
        try:
            return opened(data)[0]
        except DamagedError as e:
            raise self._damage(name, e) from None

    def has(self, name: str) -> bool:
        """Whether a file of this name was written."""
        return self.store.exists(name)

    def write_lines(self, name: str, rows: Iterable[Any]) -> None:
        """Write a JSON Lines document with its checksum, replacing the old one."""
        self.store.write(name, sealed_lines(rows))

    def lines(self, name: str) -> Iterator[Any]:
        """Read it back one line at a time; it is verified as a whole before the first.

        Raises:
            DamagedError: It is not what was written.
        """
        if not self.store.exists(name):
            return
        try:
            whole = self.verified_lines(name)
            for number, line in enumerate(self.store.lines(name), 1):
                if whole.first < number <= whole.last:
                    yield row_of(line, number)
        except DamagedError as e:
            raise self._damage(name, e) from None

    def verified_lines(self, name: str) -> Lines:
        """Look through a JSON Lines document.

        Raises:
            DamagedError: It is not what was written; the message says why.
        """
        return verify_lines(self.store.lines(name))

    def _damage(self, name: str, why: Exception) -> DamagedError:
        return DamagedError(f"{self.store.path(name)} is damaged: {one_line(why)}")

    @property
    def pending(self) -> int:
        """Observations that are not durable yet."""
        return len(self._rows)

    def append(self, observations: Sequence[Observation]) -> None:
        """Add observations; they are durable after the next `flush`, which is automatic."""
        self._rows += observations
        for o in observations:
            self._waiting.setdefault(o.key, []).append(o)
        if self._paid is not None:
            self._paid.add(o for o in observations if o.endpoint)
        late = time.monotonic() - self._flushed >= self._flush_seconds
        if late or len(self._rows) >= self._flush_rows:
            self.flush()

    def flush(self) -> None:
        """Make everything appended so far durable."""
        self._flushed = time.monotonic()
        if not self._rows:
            return
        self.watch()
        paid = any(o.endpoint for o in self._rows)
        schema = _SCHEMA.append(_ENDPOINT) if paid else _SCHEMA
        table = pa.Table.from_pylist([_row(o) for o in self._rows], schema=schema)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        data = buffer.getvalue()
        name = f"{OBSERVATIONS}/part-{uuid.uuid4().hex}-{digest(data)}.parquet"
        self.store.write(name, data)
        self._add(name, [o.key for o in self._rows], [o.replicate for o in self._rows])
        self.durable.add(Total.of(self._rows))
        self._rows = []
        self._waiting = {}
        if self._paid is not None:
            self._paid.clear()
        self.watch()

    def _recover(self) -> None:
        """Take what was paid for, and had come to no part when an earlier process was killed."""
        assert self._paid is not None
        left = {(o.key, o.replicate): o for o in self._paid.read()}
        if not left:
            return
        wanted: dict[str, set[int]] = {}
        for key, replicate in left:
            wanted.setdefault(key, set()).add(replicate)
        for batch in self.recorded(wanted):
            for o in batch:
                left.pop((o.key, o.replicate), None)
        self.append([*left.values()])
        self.flush()
        self._paid.clear()

    def observations(self) -> Iterator[list[Observation]]:
        """Every durable observation, a part at a time; parts that are damaged are set aside."""
        for name in self.store.list(OBSERVATIONS, ".parquet"):
            if (part := self._part(name)) is not None:
                yield part

    def recorded(self, wanted: Mapping[str, Collection[int]]) -> Iterator[list[Observation]]:
        """What is known of these replicates of these keys, durable or not, some at a time.

        Each part is looked into once, however often this is asked; after that only those that
        hold something wanted are read.
        """
        if self._unread:
            self.verify()
        fresh = [o for key in wanted for o in self._waiting.get(key, ())]
        if found := [o for o in fresh if o.replicate in wanted[o.key]]:
            yield found
        for name in self._index.parts_with(wanted):
            part = self._cached(name)
            if found := [o for o in part if o.replicate in wanted.get(o.key, ())]:
                yield found

    def verify(self, *, deep: bool = False) -> None:
        """Look into every part once, set aside what is damaged, and say what is gone.

        Args:
            deep: Also read whole what has no digest to verify.
        """
        names = self.store.list(OBSERVATIONS, ".parquet")
        try:
            self._listed = listed(self)
        except DamagedError as e:
            self.set_aside(PARTS, str(e))
        unverified = 0
        for name in names:
            unverified += digest_in(name) is None
            if name in self._index:
                continue
            try:
                self._add(name, *_keys(self._whole(name)))
                if deep and digest_in(name) is None:
                    self._decode(name)
            except DamagedError as e:
                self.set_aside(name, str(e))
        self._unread = False
        before = self._listed or {}
        for name in sorted(before.keys() - {*names}):
            self._say(name, "is gone", before)
        if unverified:
            self.warn(
                f"run {self.run_id!r}: {unverified:,} parts of its journal were written before "
                "parts had digests; they are read, but whether they are intact cannot be verified"
            )

    def _add(self, name: str, keys: Sequence[str], replicates: Sequence[int]) -> None:
        self._index.add(name, keys, replicates)
        self._sizes[name] = len(keys)

    def _cached(self, name: str) -> list[Observation]:
        """A part; the last few stay decoded, since what is asked together was written together."""
        if name in self._decoded:
            self._decoded.move_to_end(name)
            return self._decoded[name]
        part = self._decoded[name] = self._part(name) or []
        if len(self._decoded) > _DECODED:
            self._decoded.popitem(last=False)
        return part

    def _part(self, name: str) -> list[Observation] | None:
        try:
            return self._decode(name)
        except DamagedError as e:
            self.set_aside(name, str(e))
            return None

    def _whole(self, name: str) -> bytes:
        return whole_part(self.store, name)

    def _decode(self, name: str) -> list[Observation]:
        return decoded(self._whole(name), verified=digest_in(name) is not None)

    def set_aside(self, name: str, why: str) -> None:
        """Move a damaged file out of the way, and say so."""
        known = self._sizes.pop(name, None)
        self._index.drop(name)
        sizes = {name: known} if known is not None else self._listed or {}
        try:
            self.store.rename(name, name + DAMAGED)
        except FileNotFoundError:  # somebody removed it meanwhile
            self._say(name, "is gone", sizes)
        except OSError as e:
            self._say(name, f"is damaged ({why}) and cannot be moved ({e.strerror or e})", sizes)
        else:
            self._say(name, f"is damaged ({why}); set aside as *{DAMAGED}", sizes)

    def _say(self, name: str, what: str, sizes: Mapping[str, int]) -> None:
        count = f" ({sizes[name]:,} observations)" if name in sizes else ""
        then = "" if name.startswith(f"{SESSIONS}/") else "; what it held is owed again"
        if name == PARTS:  # it is made again from what it lists
            then = "; it is made again"
        else:
            self.lost.append(name)
        self.warn(f"{self.store.path(name)}{count} {what}{then}")

    def has_results(self) -> bool:
        """Whether anything was ever recorded."""
        return bool(self.store.list(OBSERVATIONS, ".parquet"))

    def sessions(self) -> list[tuple[str, dict[str, Any]]]:
        """What each invocation that did some of the work has cost, by the name of its file.

        Those that are damaged are set aside.
        """
        found = []
        for name in self.store.list(SESSIONS, ".json"):
            try:
                if (data := self.store.read(name)) is not None:
                    found.append((name, opened(data)[0]))
            except DamagedError as e:
                self.set_aside(name, str(e))
        return found

    def total(self) -> Total | None:
        """What all durable observations have cost; None where a part is damaged or set aside."""
        found = Total()
        if self.store.list(OBSERVATIONS, DAMAGED):
            return None
        for name in self.store.list(OBSERVATIONS, ".parquet"):
            try:
                found.add(Total.of(self._decode(name)))
            except DamagedError:
                return None
        return found

    def close(self) -> None:
        """Flush and let go of the lock."""
        try:
            self.flush()
            # In this order: until the run says what it is owed, its list says what is gone.
            self._owe()
            if not self._unread and self._sizes != self._listed:
                self.write_json(PARTS, {"parts": self._sizes})
        finally:
            if self._paid is not None:
                self._paid.close()
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def _owe(self) -> None:
        """Write down what is lost, so that the run does not count as finished."""
        if (owed := self.owed()) is None:
            return
        with contextlib.suppress(DamagedError):
            if (record := self.read_json(RECORD)) is not None:
                self.write_json(RECORD, {**record, "owed": owed, "finished_at": None})

    def owed(self) -> str | None:
        """What of `lost` a run cannot be without; None where that is nothing."""
        count = sum(not name.startswith(f"{SESSIONS}/") for name in self.lost)
        if not count:
            return None
        return f"{count} damaged or lost file{'s' if count > 1 else ''} of its journal"

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class PaidAnswers:
    """A file of observations that are durable as soon as they are added, until it is cleared.

    A line that a crash cut off is no line.
    """

    def __init__(self, path: str) -> None:
        """Name it; it is made when something is added."""
        self._path = path
        self._file: IO[bytes] | None = None

    def add(self, observations: Iterable[Observation]) -> None:
        """Write some; they are on the disk when this returns."""
        lines = b"".join(_line(o) for o in observations)
        if not lines:
            return
        if self._file is None:
            self._file = open(self._path, "ab")
        self._file.write(lines)
        self._file.flush()
        os.fsync(self._file.fileno())

    def read(self) -> Iterator[Observation]:
        """What it holds."""
        with contextlib.suppress(FileNotFoundError), open(self._path, "rb") as file:
            for line in file:
                with contextlib.suppress(DamagedError, TypeError, KeyError, AttributeError):
                    row = row_of(line, 0)
                    text, said = (
                        row.pop("text").encode("utf-8", "surrogatepass"),
                        row.pop("endpoint"),
                    )
                    o = _observation(
                        **row, text=text, endpoint=said.encode("utf-8", "surrogatepass")
                    )
                    if _sound(o):
                        yield o

    def clear(self) -> None:
        """Forget all; parts have it."""
        self.close()
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._path)

    def close(self) -> None:
        """Close the file. Idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Peek(Journal):
    """A run's journal that is only read: what is written to it is kept in memory, and lost.

    It takes no lock, and the run need not exist: for forecasts, and for studies that leave nothing.
    """

    def __init__(self, root: str, run_id: str, *, empty: bool = False) -> None:
        """Look at a journal; `empty` as if nothing had been recorded."""
        self._prepare(root, run_id, log.warning)
        self._unread, self._empty = not empty, empty
        self._written: dict[str, list[Any]] = {}

    def write_json(self, name: str, value: Mapping[str, Any]) -> None:
        """Keep it."""
        self._written[name] = [value]

    def read_json(self, name: str) -> dict[str, Any] | None:
        """See `Journal.read_json`."""
        if name in self._written:
            return dict(self._written[name][0])
        return None if self._empty else super().read_json(name)

    def has(self, name: str) -> bool:
        """See `Journal.has`."""
        return name in self._written or (not self._empty and super().has(name))

    def write_lines(self, name: str, rows: Iterable[Any]) -> None:
        """Keep them."""
        self._written[name] = list(rows)

    def lines(self, name: str) -> Iterator[Any]:
        """See `Journal.lines`."""
        if name in self._written:
            yield from self._written[name]
        elif not self._empty:
            yield from super().lines(name)

    def append(self, observations: Sequence[Observation]) -> None:
        """Keep them."""
        for o in observations:
            self._waiting.setdefault(o.key, []).append(o)

    def flush(self) -> None:
        """Nothing becomes durable."""

    def close(self) -> None:
        """Nothing to let go of."""

    def set_aside(self, name: str, why: str) -> None:
        """See `Journal.set_aside`: nothing is moved."""
        self._index.drop(name)
        self._say(name, f"is damaged ({why})", self._listed or {})


def listed(journal: Journal) -> dict[str, int] | None:
    """Which parts a journal had when it was last closed, and their observations; None if unknown.

    Raises:
        DamagedError: The list is not what was written.
    """
    found = journal.read_json(PARTS)
    if found is None:
        return None
    parts = found.get("parts")
    if not isinstance(parts, dict) or not all(isinstance(n, int) for n in parts.values()):
        raise DamagedError("it is not a list of parts")
    return parts


def whole_part(store: Store, name: str) -> bytes:
    """The bytes of a part, as they were written.

    Raises:
        DamagedError: They are not; the message says why.
    """
    try:
        data = store.read(name)
    except OSError as e:
        if e.errno != errno.EIO:  # refused, or out of reach: what is there may well be whole
            raise
        raise DamagedError("the disk cannot read it") from None
    if data is None:
        raise DamagedError("it is not there")
    said = digest_in(name)
    if said is not None and digest(data) != said:
        raise DamagedError(UNFIT)
    return data


def _keys(data: bytes) -> tuple[list[str], list[int]]:
    """Which observations a part holds."""
    columns = _columns(data, ["key", "replicate"])
    keys, replicates = columns["key"], columns["replicate"]
    if not all(isinstance(k, str) for k in keys) or not all(
        isinstance(r, int) and r >= 0 for r in replicates
    ):
        raise DamagedError("it holds what no part can hold")
    return keys, replicates


def decoded(data: bytes, *, verified: bool) -> list[Observation]:
    """All that a part holds.

    Raises:
        DamagedError: It holds what no part can hold; of one that is not verified, anything may.
    """
    columns = _columns(data, _SCHEMA.names, _ENDPOINT.name)
    try:
        found = [_observation(*row) for row in zip(*columns.values(), strict=True)]
        sound = verified or all(map(_sound, found))
    except Exception as e:  # whatever a byte that was changed leads to
        raise DamagedError(f"it cannot be decoded: {one_line(e, 100)}") from None
    if not sound:
        raise DamagedError("it holds what no part can hold")
    return found


def _sound(o: Observation) -> bool:
    numbers = (o.replicate, o.prefix_tokens, *o.token_ids)
    return (
        isinstance(o.key, str)
        and all(isinstance(n, int) and n >= 0 for n in numbers)
        and o.finish_reason in ("stop", "length", "error")
        and (o.finish_reason == "error") == (o.error is not None)
        and None not in (o.token_logprobs or ())
    )


def _columns(data: bytes, names: Sequence[str], *more: str) -> dict[str, list[Any]]:
    """Columns of a part, with those of `more` that it has."""
    try:
        there = set(pq.read_schema(io.BytesIO(data)).names) if more else set()
        names = [*names, *(m for m in more if m in there)]
        table = pq.read_table(io.BytesIO(data), columns=names)
        columns: dict[str, list[Any]] = table.to_pydict()
    except Exception as e:  # one without a digest may be anything
        raise DamagedError(f"it cannot be decoded: {one_line(e, 100)}") from None
    if list(columns) != [*names]:
        raise DamagedError("it lacks columns")
    return columns


def deduplicated(
    parts: Iterable[list[Observation]], *, keep_errors: bool = True
) -> Iterator[list[Observation]]:
    """Each (key, replicate) once, whatever the order of the parts; a success beats a failure."""
    seen: set[tuple[str, int]] = set()
    errors: dict[tuple[str, int], Observation] = {}
    for part in parts:
        fresh = []
        for o in part:
            at = (o.key, o.replicate)
            if o.error is not None:
                errors[at] = o
            elif at not in seen:
                seen.add(at)
                fresh.append(o)
        if fresh:
            yield fresh
    final = [o for at, o in errors.items() if at not in seen]
    if final and keep_errors:
        yield final


def _lock(path: str, run_id: str) -> IO[str]:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    file = open(path, "a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise TracelabError(
            f"run {run_id!r} is being worked on by another tracelab process (pid {holder}); "
            f"wait for it, or use another --set name=..."
        ) from None
    with contextlib.suppress(OSError):  # a full disk; the name is only told, the lock is held
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
    return file


def _row(o: Observation) -> dict[str, Any]:
    return {
        "key": o.key,
        "replicate": o.replicate,
        "token_ids": list(o.token_ids),
        # Bytes, because a model can write what UTF-8 cannot hold.
        "text": hidden(o.text).encode("utf-8", "surrogatepass"),
        "finish_reason": o.finish_reason,
        "token_logprobs": None if o.token_logprobs is None else list(o.token_logprobs),
        "prefix_tokens": o.prefix_tokens,
        "cached_tokens": o.cached_tokens,
        "error": None if o.error is None else redacted(o.error),
        **({"endpoint": hidden(o.endpoint).encode("utf-8", "surrogatepass")} if o.endpoint else {}),
    }


def _line(o: Observation) -> bytes:
    """The same as one line of JSON."""
    row = _row(o)
    texts = {k: row[k].decode("utf-8", "surrogatepass") for k in ("text", "endpoint")}
    return json.dumps({**row, **texts}).encode() + b"\n"


def _observation(
    key: str,
    replicate: int,
    token_ids: list[int],
    text: bytes,
    finish_reason: FinishReason,
    token_logprobs: list[float] | None,
    prefix_tokens: int,
    cached_tokens: int | None,
    error: str | None,
    endpoint: bytes | None = None,
) -> Observation:
    return Observation(
        key=key,
        replicate=replicate,
        token_ids=tuple(token_ids),
        text=text.decode("utf-8", "surrogatepass"),
        finish_reason=finish_reason,
        token_logprobs=None if token_logprobs is None else tuple(token_logprobs),
        prefix_tokens=prefix_tokens,
        cached_tokens=cached_tokens,
        error=error,
        endpoint=(endpoint or b"").decode("utf-8", "surrogatepass"),
    )
