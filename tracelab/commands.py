"""What the commands do, apart from parsing: one function each."""

from __future__ import annotations

import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast

import click

from tracelab.cli import EXIT_ERRORS, parse_params
from tracelab.config import RunConfig, load_config
from tracelab.errors import ConfigError, ImportFormatError, PlanError
from tracelab.home import Home
from tracelab.output import Format, default_format, print_arrow, print_table
from tracelab.warehouse import open_reader, open_writer, transaction


def run_study(
    path: Path,
    overrides: tuple[str, ...],
    home: Home,
    *,
    dry_run: bool = False,
    fresh: bool = False,
    retry_errors: bool = False,
    wait_s: float = 30.0,
    quiet: bool = False,
) -> int:
    """Run a study; returns the exit code."""
    config = load_config(path, overrides)
    if dry_run:
        from tracelab.dryrun import estimate_costs

        estimate_costs(config, home)
        return 0
    summary = run_config(
        config, home, fresh=fresh, retry_errors=retry_errors, wait_s=wait_s, quiet=quiet
    )
    say = click.echo if not quiet else (lambda *a, **k: None)
    say(
        f"{summary.run_id}: {summary.traces} traces, {summary.rollouts:,} rollouts "
        f"({summary.failed} failed), {summary.scores:,} scores ({summary.insufficient} "
        f"insufficient), {summary.rejected} inputs rejected; in {home.database}",
        err=True,
    )
    if summary.error_rate > config.runtime.max_error_rate:
        click.echo(
            f"tracelab: {summary.error_rate:.1%} errors, more than --max-error-rate "
            f"{config.runtime.max_error_rate:.1%}; see `tracelab query failures` and the table "
            "`rejects`",
            err=True,
        )
        return EXIT_ERRORS
    return 0


def run_config(
    config: RunConfig,
    home: Home,
    *,
    fresh: bool = False,
    retry_errors: bool = False,
    wait_s: float = 30.0,
    quiet: bool = False,
) -> Any:
    """Run a parsed config; returns the pipeline's summary."""
    from pipelines import thought_anchors
    from tracelab.runtime.progress import RunProgress
    from tracelab.runtime.run import Run
    from tracelab.runtime.wiring import versions, wire

    home.require_writable()
    wired = wire(config)
    if fresh:
        forget(config, home)
    with (
        RunProgress(quiet=quiet) as progress,
        Run(
            config, home, wired.spec, wired.make_pool, progress,
            versions=versions(), retry_errors=retry_errors,
        ) as run,
    ):  # fmt: skip
        return thought_anchors.execute(run, wired.tokenizer, wait_s=wait_s)


def forget(config: RunConfig, home: Home) -> None:
    """Set a run's journal aside and drop its rows."""
    from tracelab.warehouse_load import drop_run

    root = Path(config.runtime.journal or home.runs)
    journal = root / config.name
    if journal.exists():
        aside = root / f"{config.name}.old-{datetime.now(UTC):%Y%m%dT%H%M%S}"
        shutil.move(journal, aside)
        click.echo(f"the old journal was moved to {aside}", err=True)
    if home.database.exists():
        with open_writer(home.database) as con, transaction(con):
            drop_run(con, config.name)


def ingest_paths(
    paths: tuple[str, ...],
    form: str,
    name: str,
    segmenter: str,
    max_error_rate: float,
    home: Home,
) -> int:
    """Load traces of files; returns the exit code."""
    from tracelab import __version__
    from tracelab.runtime.study import Study, begin
    from tracelab.segment import segment
    from tracelab.sources import read
    from tracelab.sources.base import Reject
    from tracelab.trace import TokenizedTrace, content_hash
    from tracelab.warehouse_load import RejectRow, RunRow, load_rejects, load_run, load_traces

    segment("", segmenter)  # an unknown name is an error before anything is read
    home.require_writable()
    studies: list[Study] = []
    rejects: list[RejectRow] = []
    total = refused = 0

    def store() -> None:
        with open_writer(home.database) as con, transaction(con):
            load_run(con, row)
            load_traces(con, name, [s.loaded() for s in studies])
            load_rejects(con, name, rejects)
        studies.clear(), rejects.clear()

    row = RunRow(
        run_id=name,
        name=name,
        pipeline="ingest",
        engine="none",
        config={"segmenter": segmenter},
        config_digest=content_hash(segmenter),
        tracelab_version=__version__,
        seed=0,
        status="complete",
        started_at=datetime(1970, 1, 1, tzinfo=UTC),
    )
    for path in paths:
        for found in read(path, form):
            if isinstance(found, Reject):
                rejects.append(RejectRow(found.file, found.line, found.reason, found.excerpt))
                refused += 1
                continue
            total += 1
            try:
                # No model, so no tokens: units have characters only.
                tokens = TokenizedTrace(found, (), (), ())
                studies.append(begin(tokens, segmenter, max_units=1 << 30, context_length=1 << 60))
            except PlanError as e:
                rejects.append(RejectRow(found.source, 0, f"{found.name}: {e}"))
                refused, total = refused + 1, total - 1
            if len(studies) >= 256:
                store()
    store()
    click.echo(f"{name}: {total} traces loaded, {refused} rejected; in {home.database}", err=True)
    if refused:
        click.echo("why: tracelab query 'select file, line, reason from rejects'", err=True)
    if total == 0:
        raise ImportFormatError(f"{', '.join(paths)}: no record can be used; see `rejects`")
    return EXIT_ERRORS if refused / (total + refused) > max_error_rate else 0


def run_query(sql: str | None, params: tuple[str, ...], form: str | None, home: Home) -> None:
    """Run SQL or a named query, or list the named queries."""
    from tracelab.warehouse_query import named_queries, query

    if sql is None:
        rows = [
            (q.name, q.description, ", ".join(p.name for p in q.params))
            for q in named_queries().values()
        ]
        print_table(("query", "what it shows", "parameters"), rows)
        return
    if sql == "-":
        sql = sys.stdin.read()
    with open_reader(home.database) as con:
        table = query(con, sql, parse_params(params))
    print_arrow(table, cast(Format, form or default_format()))


def show_schema(tables: tuple[str, ...], home: Home) -> None:
    """Print the schema."""
    from tracelab.warehouse_query import schema, schema_markdown

    with open_reader(home.database) as con:
        found = schema(con)
    if unknown := sorted(set(tables) - {t.name for t in found}):
        known = ", ".join(t.name for t in found)
        raise ConfigError(f"there is no table or view {unknown[0]!r}; there are {known}")
    click.echo(schema_markdown([t for t in found if not tables or t.name in tables]))


def run_checks(form: str | None, home: Home) -> int:
    """Run every check; returns the exit code."""
    import pyarrow as pa

    from tracelab.warehouse_query import check

    with open_reader(home.database) as con:
        results = check(con)
    rows = pa.table(
        {
            "check": [r.name for r in results],
            "violations": [r.violations for r in results],
            "what was verified": [r.description for r in results],
        }
    )
    print_arrow(rows, cast(Format, form or default_format()))
    wrong = [r for r in results if r.violations]
    for r in wrong:
        click.echo(f"tracelab: {r.name}: {r.violations} rows, such as {r.sample_rows[0]}", err=True)
    click.echo(f"{len(results)} checks, {len(wrong)} with violations", err=True)
    return 1 if wrong else 0


def export_all(folder: Path, form: str, home: Home) -> None:
    """Export every table and view."""
    from tracelab.warehouse_query import export

    with open_reader(home.database) as con:
        written = export(con, folder, cast(Literal["parquet", "csv"], form))
    for file, rows in written.items():
        click.echo(f"{rows:>9,} rows  {file}", err=True)


def rebuild_runs(runs: tuple[str, ...], home: Home) -> None:
    """Load runs from their journals."""
    from pipelines import thought_anchors
    from tracelab.runtime.journal import Journal
    from tracelab.runtime.progress import RunProgress

    here = [p.parent.name for p in sorted(home.runs.glob("*/run.json"))]
    if unknown := sorted(set(runs) - set(here)):
        raise ConfigError(
            f"{home.runs} has no run {unknown[0]!r}; it has {', '.join(here) or 'none'}"
        )
    for name in runs or here:
        began = time.monotonic()
        with Journal(str(home.runs), name) as journal:
            record = journal.read_json("run.json")
            if record["finished_at"] is None:
                click.echo(f"{name}: is not finished; run it again instead", err=True)
                continue
            summary = thought_anchors.rebuild(record, journal, home.database, RunProgress())
        click.echo(
            f"{name}: {summary.rollouts:,} rollouts, {summary.scores:,} scores loaded in "
            f"{time.monotonic() - began:.1f} s",
            err=True,
        )
