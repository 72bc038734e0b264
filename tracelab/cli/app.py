"""The command line: `tracelab COMMAND`. Thin: parses, calls, prints, and picks the exit code.

Exit codes: 0 done, 1 failed, 2 usage or config, 3 done but more errors than --max-error-rate (or
nothing graded), 4 warehouse locked, 130 interrupted.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tracelab.cli.completion import completion, query_names
from tracelab.cli.grounding import grounding
from tracelab.cli.label import label
from tracelab.cli.report import report, show
from tracelab.cli.score_judges import score_judges
from tracelab.cli.support import EXIT_ERRORS, Names, format_options, guarded, home_option
from tracelab.core.version import __version__
from tracelab.store.home import Home
from tracelab.text.clean import clean

HELP = ["-h", "--help"]


def _formats() -> list[str]:
    from tracelab.sources import AUTO, SOURCES

    return [AUTO, *SOURCES]


class _Verbs(click.Group):
    """All commands; those of studies, and `run`, are made when somebody asks for them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, also those of studies of other packages."""
        from tracelab.core.study import STUDIES

        return sorted({*super().list_commands(ctx), "run", *STUDIES})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        if (known := super().get_command(ctx, cmd_name)) is not None:
            return known
        from tracelab.core.study import STUDIES

        if cmd_name != "run" and cmd_name not in STUDIES:
            return None
        from tracelab.cli.study import command_of, run_command

        command = run_command() if cmd_name == "run" else command_of(cmd_name)
        command.context_settings.setdefault("help_option_names", HELP)
        self.add_command(command)
        return command


@click.group(cls=_Verbs, context_settings={"help_option_names": HELP})
@click.version_option(__version__, prog_name="tracelab")
def main() -> None:
    """Which sentence, span or step made the model say that? Measured, with an error bar.

    \b
    Start here:
      tracelab demo                      a real model, resampled sentence by sentence
      tracelab query top_anchors         what decided its answers
      tracelab report --open             the same to look at
      tracelab anchors FILE --model DIR  your own traces; --dry-run says what it would cost
      tracelab cite FILE --model DIR     which spans of a context a response is made of
      tracelab audit PATH --model DIR    which step of a failed agent run is to blame
    """


@main.command()
@home_option
@click.option("--fresh", is_flag=True, help="Forget an earlier demo and start over.")
@click.option("--quiet", is_flag=True, help="No progress.")
@guarded
def demo(home: str | None, fresh: bool, quiet: bool) -> None:
    """Resample the bundled model's reasoning and show what decided an answer.

    \b
    Example:
      tracelab demo
    """
    from tracelab.cli.demo import run_demo

    run_demo(Home.at(home), fresh=fresh, quiet=quiet)


@main.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--format", "form", type=Names(_formats), default="auto", show_default=True,
              help="What the files are; auto tells by what they hold.")  # fmt: skip
@click.option("--name", default="ingest", show_default=True, help="Run that the traces belong to.")
@click.option("--segmenter", default="reasoning-v1", show_default=True)
@click.option("--max-error-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="Share of rejected records above which the exit code is 3.")  # fmt: skip
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=COLUMN",
    help="What a data set calls a column: question, response, reasoning, reference, ...",
)
@click.option("--explain", is_flag=True, help="Show how one trace is read, and load nothing.")
@click.option("--trace", "number", type=click.IntRange(1), default=1, show_default=True,
              help="With --explain: which trace, in the order they are read.")  # fmt: skip
@home_option
@guarded
def ingest(
    paths: tuple[str, ...], form: str, name: str, segmenter: str, max_error_rate: float,
    columns: tuple[str, ...], explain: bool, number: int, home: str | None,
) -> None:  # fmt: skip
    """Load traces into the warehouse without running a model.

    Bad records become rows of `rejects` with file, line and reason; the rest is loaded. What was
    read and what was left out is said, and kept in `readings`. Ingesting a file again changes
    nothing, unless the file did.

    \b
    Examples:
      tracelab ingest my.jsonl
      tracelab ingest --explain my.jsonl
    """
    from tracelab.run.ingest import ingest_paths

    named = dict(c.partition("=")[::2] for c in columns)
    if explain:
        from tracelab.view.explain import explained

        for line in explained(paths, form, number, named):
            click.echo(line)
        return
    done = ingest_paths(
        paths,
        form,
        name,
        segmenter,
        Home.at(home),
        lambda line: click.echo(clean(line), err=True),
        columns=named,
    )
    sys.exit(EXIT_ERRORS if done.rejected_share > max_error_rate else 0)


@main.command()
@click.argument("sql", required=False, shell_complete=query_names)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="For $NAME in the query."
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
              help="Stop the query after this long [default: wait].")  # fmt: skip
@format_options
@home_option
@guarded
def query(
    sql: str | None, params: tuple[str, ...], timeout_s: float | None, form: str | None,
    home: str | None,
) -> None:  # fmt: skip
    """Run SQL, a named query, or - to read SQL from stdin. Without SQL: list the named queries.

    Only SELECT (and DESCRIBE, SUMMARIZE, SHOW, EXPLAIN of one) runs here: a query changes nothing
    and reads no other file. Ctrl-C stops it.

    \b
    Examples:
      tracelab query top_anchors
      tracelab query "select engine, count(*) from runs join rollouts using (run_id) group by 1"
      tracelab query top_anchors -p run=demo -p limit=5 --json
      echo "select count(*) from rollouts" | tracelab query -
    """
    from tracelab.cli.sql import run_query

    run_query(sql, params, form, Home.at(home), timeout_s)


@main.command()
@click.argument("tables", nargs=-1)
@home_option
@guarded
def schema(tables: tuple[str, ...], home: str | None) -> None:
    """Describe the tables and views: grain, keys, units, signs.

    \b
    Example:
      tracelab schema anchors value_curves
    """
    from tracelab.cli.sql import show_schema

    show_schema(tables, Home.at(home))


@main.command()
@click.argument("runs", nargs=-1)
@click.option("--journal", is_flag=True, help="Verify the journals instead: every part, list and "
              "record of RUNS.")  # fmt: skip
@format_options
@home_option
@guarded
def check(runs: tuple[str, ...], journal: bool, form: str | None, home: str | None) -> None:
    """Verify the warehouse; print what was verified, exit 1 if anything is wrong.

    With --journal, RUNS are names of runs, or folders or URLs of journals that are elsewhere;
    default: all of the home's.

    \b
    Examples:
      tracelab check
      tracelab check --journal
      tracelab check --journal demo
    """
    from tracelab.cli.sql import run_checks, verify_journals

    if runs and not journal:
        raise click.UsageError("RUNS are for --journal: the warehouse is checked as a whole")
    sys.exit(
        verify_journals(runs, form, Home.at(home)) if journal else run_checks(form, Home.at(home))
    )


@main.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["parquet", "csv", "arrow", "duckdb"]),
    default="parquet", show_default=True,
)  # fmt: skip
@home_option
@guarded
def export(path: Path, form: str, home: str | None) -> None:
    """Write every table and view to a folder of files, or a snapshot of the database.

    PATH is a folder; with --format duckdb, one file that any tool with DuckDB opens, also while
    a run goes on writing.

    \b
    Examples:
      tracelab export results --format csv
      tracelab export snapshot.duckdb --format duckdb
    """
    from tracelab.cli.sql import export_all

    export_all(path, form, Home.at(home))


@main.command()
@click.argument("runs", nargs=-1)
@home_option
@guarded
def rebuild(runs: tuple[str, ...], home: str | None) -> None:
    """Load runs again from their journals: no weights, no engine. Default: all of the home's runs.

    \b
    Example:
      tracelab rebuild demo
    """
    from tracelab.run.rebuild import rebuild_runs

    rebuild_runs(Home.at(home), runs, lambda line: click.echo(clean(line), err=True))


@main.command()
@home_option
@guarded
def doctor(home: str | None) -> None:
    """Say what this machine has, and what is missing for what.

    \b
    Example:
      tracelab doctor
    """
    from tracelab.cli import doctor as checkup

    sys.exit(checkup.report(Home.at(home)))


for command in (grounding, report, show, label, score_judges, completion):
    main.add_command(command)


def _short_help(group: click.Group) -> None:
    """Give every command -h: called by itself (`python -m pipelines.NAME`) it inherits nothing."""
    for command in group.commands.values():
        command.context_settings.setdefault("help_option_names", HELP)
        if isinstance(command, click.Group):
            _short_help(command)


_short_help(main)


def run_module(study: str) -> None:
    """`python -m pipelines.NAME CONFIG [options]`: `tracelab run` of a config of one study."""
    from tracelab.cli.study import run_command

    command = run_command(study)
    command.context_settings.setdefault("help_option_names", HELP)
    command.main(standalone_mode=True)
