"""The warehouse: one DuckDB file that holds runs, traces, rollouts and scores.

Contract: the SQL under `warehouse/` is the schema; this module opens the file and brings the schema
up to date; `load` fills it and `query` reads it. The journal is the durable
record and the warehouse can always be rebuilt from it, so a lock or a full disk delays loading and
loses nothing. It knows nothing about engines, journals or configuration.

DuckDB lets either one process write or several read, so writers keep their transactions short and
everybody retries for a bounded time. Connections cannot touch any other file. Switching off
external access is not enough for that: DuckDB goes on writing the database file and its log by
name. So a reader can open no file at all once the database is open, not even to spill: SQL that
is mistaken or hostile reads this database and writes nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
from duckdb import DuckDBPyConnection
from tenacity import (
    Retrying,
    retry_if_exception_type,
    stop_after_delay,
    wait_random_exponential,
)

from tracelab.core.errors import LockedError, SchemaError, WarehouseError
from tracelab.core.resources import resource_dir

_CONFIG: dict[str, Any] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A query that names a table that does not exist must not find a Python variable instead.
    "python_enable_replacements": False,
    # Texts of one column can exceed the 2 GiB that 32-bit offsets reach.
    "arrow_large_buffer_size": True,
    "allow_persistent_secrets": False,
}
_WALL = {
    "disabled_filesystems": "LocalFileSystem",
    "lock_configuration": "true",
}
"""What a reader is told once the database is open, in this order."""

PORTABLE_SINCE = "v1.2.0"
"""The oldest DuckDB that opens what `new_portable` makes."""

VIEWS = 0
"""The version under which `schema_migrations` tells which views there are."""

_LOCKED = ("set lock on file", "Conflicting lock", "being used by another process")
_UNREPLAYED = "replaying WAL"
_SAME_PROCESS = "different configuration than existing connections"
DAMAGED = (
    "not a valid DuckDB", "Corrupt", "not read enough bytes", "replaying WAL", "checksum",
    "Loading external extensions is disabled",  # a file of SQLite, which an extension would read
)  # fmt: skip
"""What DuckDB says of a file that is not what it wrote."""

_FULL = ("No space left", "File too large", "quota exceeded", "Out of disk")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered file of `warehouse/migrations`."""

    version: int
    name: str
    sha256: str
    sql: str


def memory_bytes() -> int:
    """Memory that a query may use: half of the machine's, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class _HeldError(Exception):
    """Another process, named in the message, holds the file at this moment."""


def sql_dir() -> Path:
    """Folder of the SQL files, in a checkout or in the installed package."""
    folder = resource_dir("warehouse")
    if not (folder / "migrations").is_dir():
        raise WarehouseError("tracelab was installed without its SQL files: install it again")
    return folder


def migrations() -> list[Migration]:
    """Return the migrations this tracelab knows, in order."""
    found = []
    for file in sorted((sql_dir() / "migrations").glob("*.sql")):
        sql = file.read_text(encoding="utf-8")
        version, _, name = file.stem.partition("_")
        found.append(Migration(int(version), name, hashlib.sha256(sql.encode()).hexdigest(), sql))
    return found


@contextmanager
def open_writer(path: str | Path, *, wait_s: float = 30.0) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse for writing, created and migrated as needed; keep it open briefly.

    Args:
        path: The database file; folders above it are created.
        wait_s: How long to wait while another process holds it, in seconds.

    Raises:
        LockedError: Another process still holds it.
        SchemaError: It was written by a newer tracelab, or an applied migration was edited.
        WarehouseError: It is not a tracelab warehouse, or cannot be written.
    """
    path = Path(path)
    if not path.exists():
        _create(path)
    con = _connect(path, read_only=False, wait_s=wait_s)
    try:
        _migrate(con, path)
        yield con
    except duckdb.Error as error:
        raise explain("write", path, error) from error
    finally:
        con.close()


@contextmanager
def new_portable(path: str | Path) -> Iterator[DuckDBPyConnection]:
    """A new, empty warehouse in a file that older DuckDBs open too: `PORTABLE_SINCE` and later.

    Args:
        path: The file, which must not exist.

    Raises:
        WarehouseError: It cannot be written.
    """
    path = Path(path)
    quoted = str(path).replace("'", "''")
    try:
        # Which DuckDBs can read a file is settled when it is made, and only ATTACH can say it.
        with duckdb.connect() as con:
            con.execute(f"ATTACH '{quoted}' AS portable (STORAGE_VERSION '{PORTABLE_SINCE}')")
            con.execute("USE portable")
            _migrate(con, path)
            yield con
            con.execute("CHECKPOINT")
    except duckdb.Error as error:
        raise explain("write", path, error) from error


@contextmanager
def open_reader(path: str | Path, *, wait_s: float = 10.0) -> Iterator[DuckDBPyConnection]:
    """Open the warehouse for reading; SQL run on it cannot write, here or anywhere else.

    Args:
        path: The database file.
        wait_s: How long to wait while another process writes to it, in seconds.

    Raises:
        LockedError: A writer still holds it.
        SchemaError: Its schema is newer, or older, than this tracelab's.
        WarehouseError: It is missing, or not a tracelab warehouse.
    """
    path = Path(path)
    if not path.exists():
        raise WarehouseError(
            f"there is no warehouse at {path} yet: `tracelab demo` or `tracelab run CONFIG` "
            "makes one, and --home says where"
        )
    con = _connect(path, read_only=True, wait_s=wait_s)
    try:
        _shut(con)
        pending = _pending(con, path)
        if len(pending) == len(migrations()):
            raise _foreign(path)
        if pending:
            raise SchemaError(
                f"{path} was written by an older tracelab: the next command that writes to it, "
                "such as `tracelab run` with the same configuration, upgrades it"
            )
        yield con
    except duckdb.Error as error:
        raise explain("read", path, error) from error
    finally:
        with suppress(duckdb.Error):  # a statement that nothing can stop still runs
            con.close()


def _shut(con: DuckDBPyConnection) -> None:
    """Keep a reader from every file and setting; connections of one process share this."""
    with _shutting:
        [(locked,)] = con.execute("SELECT current_setting('lock_configuration')").fetchall()
        if not locked:
            con.execute(f"SET memory_limit = '{memory_bytes()}B'")
            for name, value in _WALL.items():
                con.execute(f"SET {name} = '{value}'")


_shutting = threading.Lock()


@contextmanager
def transaction(con: DuckDBPyConnection) -> Iterator[None]:
    """Commit everything inside or nothing; inside another one, join it."""
    # DuckDB does not tell whether a transaction is open, and a nested BEGIN aborts the outer one.
    if id(con) in _in_transaction:
        yield
        return
    con.begin()
    _in_transaction.add(id(con))
    try:
        yield
        con.commit()
    except BaseException:
        with suppress(duckdb.Error):  # a commit that failed has already rolled back
            con.rollback()
        raise
    finally:
        _in_transaction.discard(id(con))


_in_transaction: set[int] = set()


def explain(verb: str, path: Path, error: duckdb.Error | OSError) -> WarehouseError:
    """Turn what DuckDB or the system says into one sentence for a person."""
    said = " ".join(str(error).split("\n\n")[0].split())
    if "version number" in said:
        return SchemaError(
            f"{path} was written by another version of DuckDB than the installed "
            f"{duckdb.__version__}, which cannot read it: upgrade tracelab, or name another --home"
        )
    if any(hint in said for hint in DAMAGED):
        return WarehouseError(
            f"{path} is not a DuckDB database, or is damaged: move it away, and `tracelab rebuild` "
            "makes it again from the journals"
        )
    if any(hint in said for hint in _FULL):
        return WarehouseError(
            f"cannot {verb} {path}: there is no room for it; nothing is lost, because the journal "
            "is the record: make room and run the same command again"
        )
    return WarehouseError(f"cannot {verb} {path}: {said}")


def _connect(path: Path, *, read_only: bool, wait_s: float) -> DuckDBPyConnection:
    """Connect, waiting up to `wait_s` for whoever holds the file."""
    retrying = Retrying(
        retry=retry_if_exception_type(_HeldError),
        stop=stop_after_delay(wait_s),
        wait=wait_random_exponential(multiplier=0.05, max=1.0),
        reraise=True,
    )
    try:
        return retrying(_attempt, path, read_only)
    except _HeldError as held:
        advice = (
            "run the same command again when it is done"
            if read_only
            else "nothing is lost, because the journal is the record: when it is done, run the "
            "same command again"
        )
        raise LockedError(
            f"cannot {'read' if read_only else 'write'} {path}: {held} holds it, and did for "
            f"{wait_s:g} s; {advice}"
        ) from held


def _attempt(path: Path, read_only: bool) -> DuckDBPyConnection:
    try:
        return _opened(path, read_only)
    except duckdb.Error as error:
        said = str(error)
        if _UNREPLAYED in said and "core_functions" in said:
            _replay(path)
            return _opened(path, read_only)
        if _SAME_PROCESS in said:
            raise _HeldError(f"this process (PID {os.getpid()})") from error
        if any(hint in said for hint in _LOCKED):
            who = re.search(r"held in (.+?) \(PID (\d+)\)", said)
            name = f"{Path(who[1]).name} (PID {who[2]})" if who else "another process"
            raise _HeldError(name) from error
        raise explain("open", path, error) from error


def _opened(path: Path, read_only: bool) -> DuckDBPyConnection:
    # A reader's settings are locked in `_shut`, after the last one is made.
    own = {"temp_directory": ""} if read_only else {"lock_configuration": True}
    return duckdb.connect(str(path), read_only=read_only, config=_CONFIG | own)


def _replay(path: Path) -> None:
    """Replay a log that creates tables with checks, which a crash just after a migration leaves.

    DuckDB 2.0 replays the log of the database it opens before it knows functions such as
    `isfinite`; a database that is attached to an open one comes late enough.
    """
    quoted = str(path).replace("'", "''")
    with duckdb.connect() as con:
        con.execute(f"ATTACH '{quoted}' AS unreplayed")
        con.execute("CHECKPOINT unreplayed")


def _create(path: Path) -> None:
    """Put a complete empty warehouse at `path`, all at once: a killed process leaves no half one.

    Of several processes that do this together, the first one's file stays.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    log = path.with_name(path.name + ".wal")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        con = _opened(new, read_only=False)
        try:
            _migrate(con, new)
        finally:
            con.close()
        if not path.exists():
            log.unlink(missing_ok=True)  # of a database that was deleted without its log
            try:
                os.link(new, path)
            except FileExistsError:
                pass
            except OSError:  # a file system without hard links
                os.replace(new, path)
    except (duckdb.Error, OSError) as error:
        raise explain("create", path, error) from error
    finally:
        for left in (new, new.with_name(new.name + ".wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)


def _migrate(con: DuckDBPyConnection, path: Path) -> None:
    """Apply what is missing, each migration together with its record, then the views."""
    for migration in _pending(con, path):
        with transaction(con):
            con.execute(migration.sql)
            _record(con, migration)
        # A log with tables in it needs `_replay` after a crash, so it is not left lying. At a
        # close DuckDB would do this too, but silently not where the disk is full.
        con.execute("CHECKPOINT")
    # Views hold no data, so they follow the installed tracelab. Making them takes longer than many
    # a load, so the database says which are there.
    views = _views()
    sha256 = hashlib.sha256("\0".join(views).encode()).hexdigest()
    [(there,)] = con.execute("SELECT count(*) FROM duckdb_views() WHERE NOT internal").fetchall()
    made = con.execute(
        "SELECT sha256 FROM schema_migrations WHERE version = $views", {"views": VIEWS}
    ).fetchall()
    if made == [(sha256,)] and there == len(views):
        return
    with transaction(con):
        for sql in views:
            con.execute(sql)
        con.execute("DELETE FROM schema_migrations WHERE version = $views", {"views": VIEWS})
        _record(con, Migration(VIEWS, "views", sha256, ""))


def _record(con: DuckDBPyConnection, migration: Migration) -> None:
    con.execute(
        "INSERT INTO schema_migrations VALUES ($version, $name, $sha256, $applied_at)",
        {
            "version": migration.version,
            "name": migration.name,
            "sha256": migration.sha256,
            "applied_at": datetime.now(UTC).replace(tzinfo=None),
        },
    )


def _views() -> list[str]:
    """The SQL of every view, in the order in which they build on one another."""
    files = sorted((sql_dir() / "views").glob("*.sql"))
    return [file.read_text(encoding="utf-8") for file in files]


def _pending(con: DuckDBPyConnection, path: Path) -> list[Migration]:
    """Migrations that the database lacks; refuses one that is not ours or is ahead of us."""
    known = migrations()
    tables = {name for (name,) in con.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "schema_migrations" not in tables:
        if tables:
            raise _foreign(path)
        return known
    rows = con.execute("SELECT version, name, sha256 FROM schema_migrations").fetchall()
    applied = {version: (name, sha256) for version, name, sha256 in rows if version != VIEWS}
    if ahead := applied.keys() - {m.version for m in known}:
        raise SchemaError(
            f"{path} has schema version {max(ahead)} and this tracelab knows versions up to "
            f"{known[-1].version}: it was written by a newer tracelab, so upgrade this one or "
            "name another --home"
        )
    for migration in known:
        if migration.version in applied and applied[migration.version][1] != migration.sha256:
            raise SchemaError(
                f"{path} was made with another migration {migration.version} "
                f"({applied[migration.version][0]}) than this tracelab has ({migration.name}): "
                "applied migrations must never be edited; use the tracelab that made it, or name "
                "another --home"
            )
    return [m for m in known if m.version not in applied]


def _foreign(path: Path) -> WarehouseError:
    return WarehouseError(
        f"{path} is a DuckDB database but not a tracelab warehouse: name another --home"
    )
