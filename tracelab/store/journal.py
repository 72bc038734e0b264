"""The durable record of a run: what was asked, and every observation, as it arrives.

    <run>/run.json              the resolved config, its digest, versions
    <run>/cases.jsonl           traces with their tokens; inputs that were not studied, and why
    <run>/observations/*.parquet   one part a flush; never rewritten
    <run>/sessions/*.json       what each invocation that worked on the run has cost

Nothing else is kept: what a study concludes is a function of these. Parts are atomic, so a
crash loses at most the observations of the last unflushed moments, and those are asked again
under the same keys and seeds. One process writes a journal at a time (an flock, which dies with
its process).
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import logging
import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tracelab.core.errors import TracelabError
from tracelab.core.item import Observation
from tracelab.core.secrets import hidden, redacted, redacted_json
from tracelab.store.files import Store
from tracelab.store.part_index import PartIndex

log = logging.getLogger(__name__)

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


class Journal:
    """One run's journal."""

    def __init__(
        self, root: str, run_id: str, *, flush_rows: int = 1024, flush_seconds: float = 3.0
    ) -> None:
        """Open (and lock) the journal of a run.

        Args:
            root: Folder or fsspec URL that holds the journals.
            run_id: The run.
            flush_rows: Observations kept in memory before a part is written.
            flush_seconds: Longest time that an observation waits for a part, as long as others
                keep arriving: what a crash can cost.

        Raises:
            TracelabError: Another live process is working on this run.
        """
        self.store = Store(f"{root.rstrip('/')}/{run_id}")
        self.run_id = run_id
        self._flush_rows, self._flush_seconds = flush_rows, flush_seconds
        self._flushed = time.monotonic()
        self._rows: list[Observation] = []
        self._waiting: dict[str, list[Observation]] = {}
        self._index = PartIndex()
        self._decoded: OrderedDict[str, list[Observation]] = OrderedDict()
        self._unread = True
        self._lock: IO[str] | None = None
        if self.store.is_local:
            self._lock = _lock(self.store.path("lock"), run_id)

    def write_json(self, name: str, value: Any) -> None:
        """Write a small JSON document."""
        text = json.dumps(redacted_json(value), indent=1, sort_keys=True)
        self.store.write(name, text.encode())

    def read_json(self, name: str) -> Any | None:
        """Read it back; None if it is not there."""
        data = self.store.read(name)
        return None if data is None else json.loads(data)

    def has(self, name: str) -> bool:
        """Whether a file of this name was written."""
        return self.store.exists(name)

    def write_lines(self, name: str, rows: Iterable[Any]) -> None:
        """Write a JSON Lines document, replacing the old one."""
        self.store.write(name, (json.dumps(r).encode() + b"\n" for r in rows))

    def lines(self, name: str) -> Iterator[Any]:
        """Read it back one line at a time."""
        for line in self.store.lines(name):
            yield json.loads(line)

    def append(self, observations: Sequence[Observation]) -> None:
        """Add observations; they are durable after the next `flush`, which is automatic."""
        self._rows += observations
        for o in observations:
            self._waiting.setdefault(o.key, []).append(o)
        late = time.monotonic() - self._flushed >= self._flush_seconds
        if late or len(self._rows) >= self._flush_rows:
            self.flush()

    def flush(self) -> None:
        """Make everything appended so far durable."""
        self._flushed = time.monotonic()
        if not self._rows:
            return
        table = pa.Table.from_pylist([_row(o) for o in self._rows], schema=_SCHEMA)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        name = f"observations/part-{uuid.uuid4().hex}.parquet"
        self.store.write(name, buffer.getvalue())
        self._index.add(name, [o.key for o in self._rows], [o.replicate for o in self._rows])
        self._rows = []
        self._waiting = {}

    def observations(self) -> Iterator[list[Observation]]:
        """Every durable observation, a part at a time.

        A part that cannot be read (a damaged disk) is set aside with a warning: its work is
        simply owed again.
        """
        for name in self.store.list("observations", ".parquet"):
            if (part := self._part(name)) is not None:
                yield part

    def recorded(self, wanted: Mapping[str, Collection[int]]) -> Iterator[list[Observation]]:
        """What is known of these replicates of these keys, durable or not, some at a time.

        Each part is looked into once, however often this is asked; after that only those that
        hold something wanted are read.
        """
        for name in self.store.list("observations", ".parquet") if self._unread else ():
            if name in self._index:
                continue
            table = _table(self.store, name, ["key", "replicate"])
            if table is None:
                self._set_aside(name)
                continue
            columns = table.to_pydict()
            self._index.add(name, columns["key"], columns["replicate"])
        self._unread = False
        fresh = [o for key in wanted for o in self._waiting.get(key, ())]
        if found := [o for o in fresh if o.replicate in wanted[o.key]]:
            yield found
        for name in self._index.parts_with(wanted):
            part = self._cached(name)
            if found := [o for o in part if o.replicate in wanted.get(o.key, ())]:
                yield found

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
        table = _table(self.store, name)
        if table is None:
            self._set_aside(name)
            return None
        return [_observation(r) for r in table.to_pylist()]

    def _set_aside(self, name: str) -> None:
        log.warning("journal part %s cannot be read; set aside, its work is redone", name)
        self._index.drop(name)
        with contextlib.suppress(FileNotFoundError):  # somebody removed it meanwhile
            self.store.rename(name, name + ".damaged")

    def has_results(self) -> bool:
        """Whether anything was ever recorded."""
        return bool(self.store.list("observations", ".parquet"))

    def sessions(self) -> list[dict[str, Any]]:
        """What each invocation that did some of the work has cost."""
        names = self.store.list("sessions", ".json")
        return [s for n in names if (s := self.read_json(n)) is not None]

    def close(self) -> None:
        """Flush and let go of the lock."""
        try:
            self.flush()
        finally:
            if self._lock is not None:
                self._lock.close()
                self._lock = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Peek(Journal):
    """A run's journal that is only read: what is written to it is kept in memory, and lost.

    It takes no lock, and the run need not exist: for forecasts, and for studies that leave nothing.
    """

    def __init__(self, root: str, run_id: str, *, empty: bool = False) -> None:
        """Look at a journal; `empty` as if nothing had been recorded."""
        self.store = Store(f"{root.rstrip('/')}/{run_id}")
        self.run_id = run_id
        self._rows, self._waiting = [], {}
        self._index, self._decoded = PartIndex(), OrderedDict()
        self._lock, self._unread, self._empty = None, not empty, empty
        self._written: dict[str, list[Any]] = {}

    def write_json(self, name: str, value: Any) -> None:
        """Keep it."""
        self._written[name] = [value]

    def read_json(self, name: str) -> Any | None:
        """See `Journal.read_json`."""
        if name in self._written:
            return self._written[name][0]
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

    def _set_aside(self, name: str) -> None:
        log.warning("journal part %s cannot be read; its work would be redone", name)
        self._index.drop(name)


def _table(store: Store, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
    """A part, or some columns of it; None when it is damaged."""
    wanted = _SCHEMA.names if columns is None else list(columns)
    try:
        table = pq.read_table(io.BytesIO(store.read(name) or b""), columns=wanted)
    except (pa.ArrowInvalid, OSError, KeyError):
        return None
    return table if table.column_names == wanted else None


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
    }


def _observation(r: dict[str, Any]) -> Observation:
    return Observation(
        key=r["key"],
        replicate=r["replicate"],
        token_ids=tuple(r["token_ids"]),
        text=r["text"].decode("utf-8", "surrogatepass"),
        finish_reason=r["finish_reason"],
        token_logprobs=None if r["token_logprobs"] is None else tuple(r["token_logprobs"]),
        prefix_tokens=r["prefix_tokens"],
        cached_tokens=r["cached_tokens"],
        error=r["error"],
    )
