"""Runs a study by the command line, reads its warehouse by SQL, and compares what it reads."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
from click.testing import CliRunner

from tests.snapshot.pinned import DATABASE, STUDIES, TABLES, Table
from tracelab.cli import main

HERE = Path(__file__).parent
INPUTS, RECORDED = HERE / "inputs", HERE / "recorded"

DIGITS = 9
"""Significant digits that are kept of a float."""
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""Two floats are the same within one of these."""
FLOAT32 = 5e-5
"""Instead of `ABSOLUTE` where a model computes: which requests share a batch depends on what was
answered first, and changes the last bits of a log-probability, and so what is estimated of it."""
SHOWN = 20
"""Differences that are printed."""

Snapshot = dict[str, dict[str, Any]]
"""Table to {"key", "values": names of columns, "rows"}; a row is [key, values]."""


def run_study(name: str, folder: Path) -> Path:
    """Run a study in an empty folder, from copies of its inputs; returns its home."""
    study, home = STUDIES[name], folder / "home"
    shutil.copytree(INPUTS, folder / "inputs")
    data = {"name": name, **study.config}
    if data["source"] != "testbed":
        data["source"] = str(folder / "inputs" / data["source"])
    config = folder / f"{name}.toml"
    config.write_text(toml(data))
    command(study.exits, "run", config, "--home", home, "--quiet")
    return home


@contextlib.contextmanager
def workers() -> Iterator[None]:
    """One Ray for many studies: starting it takes longer than a study. A run uses what it finds."""
    import ray

    if ray.is_initialized():  # by a fixture of another file that this process ran before
        yield
        return
    # Workers that give way to everything else on the machine would take several times as long.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(address="local", include_dashboard=False, log_to_driver=False,
             object_store_memory=256 << 20)  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def command(exits: int, *arguments: object) -> None:
    """Run `tracelab ARGUMENTS`, which must end with that exit code."""
    result = CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == exits, f"exit code {result.exit_code}: {result.output}"


def toml(data: dict[str, Any]) -> str:
    """Config data as TOML: what JSON writes of strings, numbers and lists is TOML too."""
    plain = {k: v for k, v in data.items() if not isinstance(v, dict)}
    lines = [f"{k} = {json.dumps(v)}" for k, v in plain.items()]
    for k in data.keys() - plain.keys():
        lines += [f"[{k}]", *(f"{a} = {json.dumps(b)}" for a, b in data[k].items())]
    return "\n".join(lines) + "\n"


def read(home: Path) -> Snapshot:
    """What is pinned of a warehouse, sorted by natural keys; empty tables are left out."""
    found = {}
    with duckdb.connect(str(home / DATABASE), read_only=True) as con:
        for name, table in TABLES.items():
            if (one := _read_table(con, name, table))["rows"]:
                found[name] = one
    return found


def _read_table(con: duckdb.DuckDBPyConnection, name: str, table: Table) -> dict[str, Any]:
    group = " GROUP BY ALL" if table.grouped else ""
    cursor = con.execute(f"SELECT {', '.join((*table.key, *table.values))} FROM {table.sql}{group}")
    assert cursor.description is not None
    columns = [c[0] for c in cursor.description]
    parsed = {c[0] for c in cursor.description if str(c[1]) == "JSON"}
    n = len(table.key)
    rows = []
    for row in cursor.fetchall():
        cells = [
            json.loads(v) if c in parsed and v is not None else v
            for c, v in zip(columns, row, strict=True)
        ]
        rows.append([cells[:n], rounded(cells[n:])])
    rows.sort(key=lambda r: [(v is not None, v) for v in r[0]])
    keys = {tuple(r[0]) for r in rows}
    assert len(keys) == len(rows), f"{name}: the key names {len(keys)} of {len(rows)} rows"
    return {"key": columns[:n], "values": columns[n:], "rows": rows}


def rounded(value: Any) -> Any:
    """The same with floats of so many significant digits."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [rounded(v) for v in value]
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return value


def same(was: Any, now: Any, absolute: float = ABSOLUTE) -> bool:
    """Floats within the tolerances, everything else exactly, also inside of JSON."""
    if isinstance(was, float) or isinstance(now, float):
        if type(was) not in (int, float) or type(now) not in (int, float):
            return False
        return bool(abs(was - now) <= max(absolute, RELATIVE * max(abs(was), abs(now))))
    if isinstance(was, list) and isinstance(now, list):
        return len(was) == len(now) and all(
            same(a, b, absolute) for a, b in zip(was, now, strict=True)
        )
    if isinstance(was, dict) and isinstance(now, dict):
        return was.keys() == now.keys() and all(same(was[k], now[k], absolute) for k in was)
    return type(was) is type(now) and was == now


def differences(name: str, was: Snapshot, now: Snapshot) -> list[str]:
    """What is not as it was, for reading: counts by table, then the first differences."""
    absolute = ABSOLUTE if STUDIES[name].config["model"] == "scripted" else FLOAT32
    counts, lines = [], []
    for table in sorted(was.keys() | now.keys()):
        missing, extra, changed = 0, 0, 0
        for kind, text in _table_differences(was.get(table), now.get(table), absolute):
            missing, extra = missing + (kind == "missing"), extra + (kind == "extra")
            changed += kind == "changed"
            lines.append(f"  {table}: {text}")
        if missing or extra or changed:
            rows = len((was.get(table) or now[table])["rows"])
            counts.append(
                f"{table}: {changed} values changed, {missing} rows missing, {extra} too many; "
                f"{rows} rows were recorded" if table in was else f"{table}: is new, {rows} rows"
            )  # fmt: skip
    more = [f"  ... and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return counts + lines[:SHOWN] + more


def _table_differences(
    was: dict[str, Any] | None, now: dict[str, Any] | None, absolute: float
) -> Iterator[tuple[str, str]]:
    """(kind, sentence) of each difference."""
    one = was or now
    assert one is not None
    for part in ("key", "values"):
        if was and now and was[part] != now[part]:
            yield "changed", f"columns were {was[part]}, are {now[part]}"
            return
    before = {tuple(k): v for k, v in was["rows"]} if was else {}
    after = {tuple(k): v for k, v in now["rows"]} if now else {}
    for key in sorted(before.keys() | after.keys(), key=str):
        named = ", ".join(f"{c}={v}" for c, v in zip(one["key"], key, strict=True))
        if key not in after:
            yield "missing", f"{named}: is missing"
        elif key not in before:
            yield "extra", f"{named}: was not there"
        else:
            for column, a, b in zip(one["values"], before[key], after[key], strict=True):
                if not same(a, b, absolute):
                    yield "changed", f"{named}: {column} was {_short(a)}, is {_short(b)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else text[:157] + "..."


def recorded(name: str) -> Snapshot:
    """What was recorded of a study."""
    data: Snapshot = json.loads(gzip.decompress((RECORDED / f"{name}.json.gz").read_bytes()))
    return data


def record(name: str, snapshot: Snapshot) -> int:
    """Keep what was read; returns its size in bytes."""
    RECORDED.mkdir(exist_ok=True)
    text = json.dumps(snapshot, separators=(",", ":"), ensure_ascii=False)
    # No time in it: the same numbers are the same file.
    data = gzip.compress(text.encode(), 9, mtime=0)
    (RECORDED / f"{name}.json.gz").write_bytes(data)
    return len(data)
