"""Take the warehouse elsewhere: a file for each table and view, or one copy of the database.

Contract: every file is complete or absent. A reader sees one state of the database, so what is
written belongs together, also while a run goes on: its next load waits the moment this takes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from duckdb import DuckDBPyConnection

from tracelab.store.connect import explain, new_portable, transaction
from tracelab.store.query import schema

Format = Literal["parquet", "csv", "arrow"]

_BATCH_ROWS = 20_000
_WRITERS: dict[str, Callable[[str, pa.Schema], Any]] = {
    "parquet": pa.parquet.ParquetWriter,
    "csv": pa.csv.CSVWriter,
    "arrow": pa.ipc.new_file,
}


def export(
    con: DuckDBPyConnection, folder: str | Path, format: Format = "parquet"
) -> dict[Path, int]:
    """Write every table and view to a file of its own.

    Args:
        con: An open reader.
        folder: Where to; made if needed, files of the same names are replaced.
        format: `parquet`, `arrow` (the IPC file format, also called Feather), or `csv` with a
            header line, UTF-8.

    Returns:
        Rows by file.

    Raises:
        WarehouseError: Something cannot be written.
    """
    folder = Path(folder)
    written = {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in schema(con):
            target = folder / f"{table.name}.{format}"
            partial = target.with_name(f".{target.name}.{os.getpid()}.part")
            try:
                written[target] = _write(con, table.name, partial, format)
                os.replace(partial, target)
            finally:
                partial.unlink(missing_ok=True)
    except (OSError, duckdb.Error) as error:
        raise explain("export to", folder, error) from error
    return written


def _write(con: DuckDBPyConnection, table: str, file: Path, format: Format) -> int:
    """Stream one table into a file and return its number of rows."""
    # DuckDB's own COPY is switched off together with all other access to files.
    reader = con.sql(f'FROM "{table}"').to_arrow_reader(_BATCH_ROWS)
    rows = 0
    with _WRITERS[format](str(file), reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
            rows += batch.num_rows
    return rows


def snapshot(con: DuckDBPyConnection, path: str | Path) -> dict[str, int]:
    """Write a copy of the warehouse that nobody holds: one DuckDB file with all tables and views.

    DuckDB 1.2 and later opens it.

    Args:
        con: An open reader of the warehouse.
        path: The new file; one that is there is replaced.

    Returns:
        Rows by table.

    Raises:
        WarehouseError: It cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    copied = {}
    try:
        with new_portable(partial) as new, transaction(new):
            new.execute("DELETE FROM schema_migrations")
            for table in [t.name for t in schema(con) if t.kind == "table"]:
                reader = con.sql(f'FROM "{table}"').to_arrow_reader(_BATCH_ROWS)
                new.register("copied_rows", reader)
                # A snapshot's reader is as exact as the original's: keys and checks hold there too.
                new.execute(f'INSERT INTO "{table}" BY NAME FROM copied_rows')
                new.unregister("copied_rows")
                [(copied[table],)] = new.execute(f'SELECT count(*) FROM "{table}"').fetchall()
        os.replace(partial, path)
    except (OSError, duckdb.Error) as error:
        raise explain("export to", path, error) from error
    finally:
        for left in (partial, partial.with_name(partial.name + ".wal")):
            with suppress(OSError):
                left.unlink(missing_ok=True)
    return copied
