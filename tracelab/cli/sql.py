"""What the commands that only read do: one function each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import click
import pyarrow as pa

from tracelab.cli.support import parse_params, tell
from tracelab.core.errors import ConfigError
from tracelab.store.connect import open_reader
from tracelab.store.export import Format as FileFormat
from tracelab.store.export import export, snapshot
from tracelab.store.find import instead, shown
from tracelab.store.home import Home
from tracelab.store.named import named_queries
from tracelab.store.query import ask, check, schema, schema_markdown
from tracelab.text.clean import clean
from tracelab.view.output import Format, default_format, print_arrow
from tracelab.view.tables.described import print_schema


def run_query(
    sql: str | None,
    params: tuple[str, ...],
    form: str | None,
    home: Home,
    timeout_s: float | None = None,
) -> None:
    """Run SQL or a named query, or list the named queries."""
    chosen = cast(Format, form or default_format())
    if sql is None:
        known = named_queries().values()
        columns = {
            "query": [q.name for q in known],
            "what it shows": [q.description for q in known],
            "parameters": [", ".join(p.name for p in q.params) for q in known],
        }
        print_arrow(pa.table(columns), cast(Format, form or "table"), whole=True)
        return
    if sql == "-":
        sql = sys.stdin.read()
        if not sql.strip():
            raise ConfigError("there is no SQL on stdin")
    with open_reader(home.database) as con:
        table = ask(con, sql, parse_params(params), tell, timeout_s=timeout_s)
    print_arrow(table, chosen)


def show_schema(tables: tuple[str, ...], home: Home) -> None:
    """Print the schema."""
    with open_reader(home.database) as con:
        found = schema(con)
    names = [t.name for t in found]
    if unknown := sorted(set(tables) - {*names}):
        near = instead(unknown[0], names)
        raise ConfigError(f"there is no table or view {shown(unknown[0])}{near}")
    wanted = [t for t in found if not tables or t.name in tables]
    if sys.stdout.isatty():
        print_schema(wanted)
    else:
        click.echo(schema_markdown(wanted))


def run_checks(form: str | None, home: Home) -> int:
    """Run every check; returns the exit code."""
    from tracelab.store.costs import check_costs

    with open_reader(home.database) as con:
        results = sorted([*check(con), check_costs(con, home)], key=lambda r: r.name)
    rows = pa.table(
        {
            "check": [r.name for r in results],
            "violations": [r.violations for r in results],
            "what was verified": [r.description for r in results],
        }
    )
    print_arrow(rows, cast(Format, form or default_format()), whole=True)
    wrong = [r for r in results if r.violations]
    for r in wrong:
        say = f"tracelab: {r.name}: {r.violations} rows, such as {r.sample_rows[0]}"
        click.echo(clean(say), err=True)
    click.echo(f"{len(results)} checks, {len(wrong)} with violations", err=True)
    return 1 if wrong else 0


def verify_journals(runs: tuple[str, ...], form: str | None, home: Home) -> int:
    """Verify journals; returns the exit code."""
    from tracelab.view.integrity import examine

    found = list(examine(home, runs))
    rows = pa.table(
        {
            "run": [f.run for f in found],
            "what": [f.what for f in found],
            "verified": [f.verified for f in found],
            "unverified": [f.unverified for f in found],
            "wrong": [len(f.wrong) for f in found],
            "set aside": [f.aside for f in found],
        }
    )
    print_arrow(rows, cast(Format, form or default_format()))
    for f in found:
        for sentence in f.wrong:
            click.echo(clean(f"tracelab: {f.run}: {sentence}"), err=True)
    if unverified := sum(f.unverified for f in found):
        click.echo(f"{unverified:,} files were written before there were digests", err=True)
    wrong = sum(len(f.wrong) for f in found)
    click.echo(f"{len({f.run for f in found})} journals, {wrong} things wrong", err=True)
    return 1 if wrong else 0


def export_all(path: Path, form: str, home: Home) -> None:
    """Export every table and view, or the whole database as one file."""
    with open_reader(home.database) as con:
        if form == "duckdb":
            rows = sum(snapshot(con, path).values())
            click.echo(f"{rows:>9,} rows  {path}", err=True)
            return
        written = export(con, path, cast(FileFormat, form))
    for file, n in written.items():
        click.echo(f"{n:>9,} rows  {file}", err=True)
