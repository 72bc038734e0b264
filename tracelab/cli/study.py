"""The working verbs: one command for each study there is, made from the study's options. Thin.

    tracelab STUDY SOURCE... [options of the study] [options of every run]

What is given on the command line becomes config keys (`tracelab.cli.options`); the run is that of
`tracelab run`, and its result is printed (`tracelab.cli.faces`).
"""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click

from tracelab.cli.options import KeyOption, given, in_options
from tracelab.cli.support import EXIT_ERRORS, format_options, guarded, home_option
from tracelab.core.errors import ConfigError, TracelabError
from tracelab.run.config import RunConfig
from tracelab.store.home import Home
from tracelab.view.keys import common_keys, config_of, keys_of, manners_of

STDIN = "-"


def doing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a run is done, whatever is studied: `--dry-run`, `--fresh`, `--wait`, ..."""
    for option in (
        click.option("--quiet", is_flag=True, help="No progress."),
        click.option("--wait", type=click.FloatRange(min=0), default=30.0, show_default=True,
                     help="Seconds to wait for the database if another process holds it."),
        click.option("--retry-errors", is_flag=True, help="Ask again for what failed."),
        click.option("--fresh", is_flag=True,
                     help="Forget what this run has done and start over."),
        click.option("--dry-run", is_flag=True,
                     help="Say what it would cost; write nothing. With --json, one object."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
                     help="Any config key."),
    ):  # fmt: skip
        command = option(command)
    return command


def command_of(study: str) -> click.Command:
    """The command of a study.

    Raises:
        ConfigError: There is no such study.
    """
    from tracelab.cli.faces import face_of

    face = face_of(study)

    @click.command(study, help=face.help)
    @click.argument("source", nargs=-1, required=True)
    @doing_options
    @format_options
    @home_option
    @click.pass_context
    @guarded
    def command(ctx: click.Context, /, source: tuple[str, ...], **options: Any) -> None:
        values = face.refine(given(ctx), options)
        home = Home.at(options["home"])
        with _placed(source, study, home, keep=not options["dry_run"]) as (path, in_memory):
            try:
                config = config_of(
                    study, path, values, options["overrides"], in_memory=in_memory,
                    where=study,
                )  # fmt: skip
                face.check(config)
            except ConfigError as e:
                raise in_options(e, ctx.command.params) from None
            sys.exit(do(config, home, options, shown=True))

    name_is = manners_of(study).name_is
    keys = [
        KeyOption(k, otherwise=name_is if k.path == "name" else "") for k in keys_of(study).values()
    ]
    model = [o for o in keys if o.key.path == "model"]
    own = [o for o in keys if o.key.path.startswith(f"{study}.")]
    common = [o for o in keys if o not in own and o not in model]
    argument, *rest = command.params
    command.params = [argument, *model, *own, *face.options(), *common, *rest]
    return command


@contextlib.contextmanager
def _placed(
    source: tuple[str, ...], study: str, home: Home, *, keep: bool
) -> Iterator[tuple[str, bool]]:
    """Where the data are, and whether they came from stdin; errors then say so.

    What stdin held is kept in the home, unless it is only needed for a forecast.
    """
    if STDIN not in source:
        yield "\n".join(source), False
        return
    if len(source) > 1:
        raise click.UsageError("- is the only source, or none")
    from tracelab.view.data import keep_text
    from tracelab.view.results.result import documents

    there = home.path.exists(), (home.path / "inputs").exists()
    try:
        path = Path(keep_text(sys.stdin.read(), home, documents=documents(study)))
    except TracelabError as e:
        raise type(e)(f"stdin: {e}") from None
    try:
        yield str(path), True
    except TracelabError as e:
        raise type(e)(str(e).replace(str(path), "stdin")) from None
    finally:
        if not keep:
            _remove(path, home, *there)


def _remove(path: Path, home: Home, had_home: bool, had_inputs: bool) -> None:
    """Undo what was written for a forecast."""
    for folder, there in ((home.path, had_home), (home.path / "inputs", had_inputs)):
        if not there:
            shutil.rmtree(folder)
            return
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def do(config: RunConfig, home: Home, options: dict[str, Any], *, shown: bool) -> int:
    """Do what a working verb was asked: forecast, or run and print; returns the exit code.

    Args:
        config: What.
        home: Where.
        options: Those of `doing_options` and `format_options`, and what the study's command takes
            besides.
        shown: Whether the result is printed where nobody chose a form.
    """
    again = {"fresh": options["fresh"], "retry_errors": options["retry_errors"]}
    form: str | None = options["form"]
    if options["dry_run"]:
        from tracelab.run.forecast import forecast
        from tracelab.view.forecast import show_forecast

        if form not in (None, "json"):
            raise click.UsageError(f"a forecast is shown as a table or with --json, not --{form}")
        show_forecast(forecast(config, home, **again), as_json=form == "json")
        return 0
    from tracelab.cli.faces import Done, show
    from tracelab.run.execute import run_config

    summary = run_config(
        config, home, **again, wait_s=options["wait"], quiet=options["quiet"],
        in_process=shown and manners_of(config.study).in_process,
    )  # fmt: skip
    if not options["quiet"]:
        click.echo(
            f"{summary.run_id}: {summary.traces} traces, {summary.attempted:,} observations "
            f"({summary.losses}), {summary.scores:,} scores ({summary.insufficient} "
            f"insufficient), {summary.rejected} inputs rejected; in {home.database}",
            err=True,
        )
    if shown or form is not None:
        show(Done(config, home, summary, form, options))
    if summary.error_rate > config.runtime.max_error_rate:
        click.echo(
            f"tracelab: {summary.error_rate:.1%} errors ({summary.losses}, {summary.rejected} "
            f"inputs rejected), more than --max-error-rate {config.runtime.max_error_rate:.1%}; "
            f"why: `tracelab query failures -p run={summary.run_id}`",
            err=True,
        )
        return EXIT_ERRORS
    return EXIT_ERRORS if summary.nothing else 0


def run_command(study: str | None = None) -> click.Command:
    """`tracelab run CONFIG`, with the options of every run; of one study, where that is given."""
    from tracelab.cli.completion import config_names

    @click.command("run", help=_RUN)
    @click.argument("config", type=click.Path(path_type=Path), shell_complete=config_names)
    @doing_options
    @format_options
    @home_option
    @click.pass_context
    @guarded
    def run(ctx: click.Context, /, config: Path, **options: Any) -> None:
        from tracelab.run.config import load_config

        try:
            loaded = load_config(config, options["overrides"], given(ctx))
        except ConfigError as e:
            raise in_options(e, ctx.command.params) from None
        if study is not None and loaded.study != study:
            raise ConfigError(f"{config}: `study` is {loaded.study!r}, not {study!r}")
        sys.exit(do(loaded, Home.at(options["home"]), options, shown=False))

    argument, *rest = run.params
    run.params = [argument, *(KeyOption(k, bare=True) for k in common_keys().values()), *rest]
    return run


_RUN = """Run a study, or finish one: what is done already is never done again.

CONFIG is a TOML file, or the name of a bundled one, such as demo. Options go before what it says.
With --json, --nl, --csv or --table the result is printed as the study's own command prints it.

\b
Examples:
  tracelab run demo --dry-run
  tracelab run my.toml --set source=my.jsonl --set anchors.rollouts=50
"""
