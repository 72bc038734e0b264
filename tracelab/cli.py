"""The command line: `tracelab COMMAND`. Thin: parses, calls, prints, and picks the exit code.

Exit codes: 0 done, 1 failed, 2 usage or config, 3 done but more errors than --max-error-rate,
4 warehouse locked, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from tracelab import __version__
from tracelab.errors import ConfigError, TracelabError
from tracelab.home import Home

EXIT_ERRORS = 3
EXIT_INTERRUPTED = 130

F = TypeVar("F", bound=Callable[..., Any])


def guarded(command: F) -> F:
    """Turn what goes wrong on purpose into one sentence and an exit code."""

    @wraps(command)
    def call(*args: Any, **kwargs: Any) -> Any:
        from tracelab.output import clean

        try:
            return command(*args, **kwargs)
        except TracelabError as e:
            click.echo(f"tracelab: {clean(str(e))}", err=True)
            sys.exit(e.exit_code)
        except KeyboardInterrupt:
            click.echo("tracelab: interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)
        except BrokenPipeError:
            # The reader of our output left (`| head`): nothing failed.
            sys.stdout = None  # type: ignore[assignment]
            sys.exit(0)

    return call  # type: ignore[return-value]


def home_option(command: F) -> F:
    """`--home`."""
    return click.option(
        "--home",
        metavar="DIR",
        help="Where results live [default: $TRACELAB_HOME or ./tracelab-home].",
    )(command)


def format_options(command: F) -> F:
    """`--json`, `--nl`, `--csv`, `--table`."""
    for name, text in (
        ("table", "Table for reading (default on a terminal)."),
        ("csv", "CSV (default when piped)."),
        ("nl", "One JSON object a line."),
        ("json", "One JSON array."),
    ):
        command = click.option(f"--{name}", "form", flag_value=name, help=text)(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tracelab")
def main() -> None:
    """Which sentence, span or step made the model say that? Measured, with an error bar.

    \b
    Start here:
      tracelab demo                      a real model, resampled sentence by sentence
      tracelab query top_anchors         what decided its answers
      tracelab run CONFIG --dry-run      what a study of your own would cost
    """


@main.command()
@home_option
@click.option("--quiet", is_flag=True, help="No progress.")
@guarded
def demo(home: str | None, quiet: bool) -> None:
    """Resample the bundled model's reasoning and show what decided an answer.

    \b
    Example:
      tracelab demo
    """
    from tracelab.demo import run_demo

    run_demo(Home.at(home), quiet=quiet)


@main.command()
@click.argument("config", type=click.Path(path_type=Path))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost; write nothing.")
@click.option("--fresh", is_flag=True, help="Forget what this run has done and start over.")
@click.option("--retry-errors", is_flag=True, help="Ask again for rollouts that failed.")
@click.option("--max-error-rate", type=click.FloatRange(0, 1), help="See runtime.max_error_rate.")
@click.option("--wait", default=30.0, show_default=True, help="Seconds to wait for the database.")
@click.option("--quiet", is_flag=True, help="No progress.")
@home_option
@guarded
def run(
    config: Path,
    overrides: tuple[str, ...],
    dry_run: bool,
    fresh: bool,
    retry_errors: bool,
    max_error_rate: float | None,
    wait: float,
    quiet: bool,
    home: str | None,
) -> None:
    """Run a study, or finish one: what is done already is never done again.

    \b
    Examples:
      tracelab run configs/thought_anchors/demo.toml --dry-run
      tracelab run my.toml --set source=my.jsonl --set resample.rollouts=50
    """
    from tracelab.commands import run_study

    if max_error_rate is not None:
        overrides = (*overrides, f"runtime.max_error_rate={max_error_rate}")
    code = run_study(
        config, overrides, Home.at(home), dry_run=dry_run, fresh=fresh,
        retry_errors=retry_errors, wait_s=wait, quiet=quiet,
    )  # fmt: skip
    sys.exit(code)


@main.command()
@click.argument("paths", nargs=-1, required=True)
@click.option(
    "--format", "form", default="auto", show_default=True, help="auto, jsonl or thought-anchors."
)
@click.option("--name", default="ingest", show_default=True, help="Run that the traces belong to.")
@click.option("--segmenter", default="reasoning-v1", show_default=True)
@click.option("--max-error-rate", type=click.FloatRange(0, 1), default=0.05, show_default=True,
              help="Share of rejected records above which the exit code is 3.")  # fmt: skip
@home_option
@guarded
def ingest(
    paths: tuple[str, ...], form: str, name: str, segmenter: str, max_error_rate: float,
    home: str | None,
) -> None:  # fmt: skip
    """Load traces into the warehouse without running a model.

    Bad records become rows of `rejects` with file, line and reason; the rest is loaded.

    \b
    Example:
      tracelab ingest my.jsonl
    """
    from tracelab.commands import ingest_paths

    sys.exit(ingest_paths(paths, form, name, segmenter, max_error_rate, Home.at(home)))


@main.command()
@click.argument("sql", required=False)
@click.option(
    "--param", "-p", "params", multiple=True, metavar="NAME=VALUE", help="For $NAME in the query."
)
@format_options
@home_option
@guarded
def query(sql: str | None, params: tuple[str, ...], form: str | None, home: str | None) -> None:
    """Run SQL, a named query, or - to read SQL from stdin. Without SQL: list the named queries.

    \b
    Examples:
      tracelab query top_anchors
      tracelab query "select engine, count(*) from runs join rollouts using (run_id) group by 1"
      tracelab query value_curve -p trace=TRACE_ID --json
    """
    from tracelab.commands import run_query

    run_query(sql, params, form, Home.at(home))


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
    from tracelab.commands import show_schema

    show_schema(tables, Home.at(home))


@main.command()
@format_options
@home_option
@guarded
def check(form: str | None, home: str | None) -> None:
    """Verify the warehouse; print what was verified, exit 1 if anything is wrong.

    \b
    Example:
      tracelab check
    """
    from tracelab.commands import run_checks

    sys.exit(run_checks(form, Home.at(home)))


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["parquet", "csv"]), default="parquet", show_default=True
)
@home_option
@guarded
def export(folder: Path, form: str, home: str | None) -> None:
    """Write every table and view to a folder of files.

    \b
    Example:
      tracelab export results --format csv
    """
    from tracelab.commands import export_all

    export_all(folder, form, Home.at(home))


@main.command()
@click.argument("runs", nargs=-1)
@home_option
@guarded
def rebuild(runs: tuple[str, ...], home: str | None) -> None:
    """Load runs again from their journals: no model, no engine. Default: all of the home's runs.

    \b
    Example:
      tracelab rebuild demo
    """
    from tracelab.commands import rebuild_runs

    rebuild_runs(runs, Home.at(home))


@main.command()
@home_option
@guarded
def doctor(home: str | None) -> None:
    """Say what this machine has, and what is missing for what.

    \b
    Example:
      tracelab doctor
    """
    from tracelab.doctor import report

    sys.exit(report(Home.at(home)))


def run_module() -> None:
    """`python -m pipelines.NAME CONFIG [options]`: the same as `tracelab run`."""
    run.main(standalone_mode=True)


def parse_params(params: tuple[str, ...]) -> dict[str, str]:
    """`NAME=VALUE` options as a map.

    Raises:
        ConfigError: One has no `=`.
    """
    pairs = [p.partition("=") for p in params]
    for name, eq, _ in pairs:
        if not eq:
            raise ConfigError(f"--param {name!r}: write NAME=VALUE")
    return {name: value for name, _, value in pairs}


if __name__ == "__main__":
    main()
