"""Commands that show results to a person: `report` and `show`. Thin, like `tracelab.cli`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from tracelab.cli.support import guarded, home_option, tell
from tracelab.store.home import Home


@click.command()
@click.argument("selection", nargs=-1, metavar="[RUN|TRACE]...")
@click.option("--open", "open_it", is_flag=True, help="Show it in the browser.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
              help="Where to [default: reports/ in the home].")  # fmt: skip
@click.option("--max-traces", type=click.IntRange(min=1), default=200, show_default=True,
              help="Of larger runs, the traces that one sentence changed most.")  # fmt: skip
@home_option
@guarded
def report(
    selection: tuple[str, ...], open_it: bool, out: Path | None, max_traces: int, home: str | None
) -> None:
    """Write one HTML file that shows runs or traces: no network, nothing to install.

    RUN and TRACE are ids, beginnings of ids, or names. Without any, the latest run that finished
    with results. Prints the file's path.

    \b
    Examples:
      tracelab report --open
      tracelab report demo --out demo.html
    """
    from tracelab.store.connect import open_reader
    from tracelab.view.report import build, select, write
    from tracelab.view.report.page import default_path

    place = Home.at(home)
    with open_reader(place.database) as con:
        selected = select(con, selection, max_traces=max_traces, say=tell)
        html = build(con, selected, now=datetime.now(UTC))
    path = out or default_path(place.path / "reports", selected)
    write(html, path)
    many = f"{len(selected.traces)} trace{'' if len(selected.traces) == 1 else 's'}"
    left = f", {selected.left_out} left out (--max-traces)" if selected.left_out else ""
    click.echo(f"{many}{left}, {len(html.encode()) / 1e6:.1f} MB", err=True)
    click.echo(str(path))
    if open_it and click.launch(path.resolve().as_uri()) != 0:
        click.echo("no browser could be started: open the file yourself", err=True)


@click.command()
@click.argument("trace")
@click.option("--run", help="Run [default: the latest that finished with results of it].")
@click.option("--method", help="Estimator to show [default: resample-pooled, if there is one].")
@home_option
@guarded
def show(trace: str, run: str | None, method: str | None, home: str | None) -> None:
    """Print one trace, every sentence tinted by its effect, with intervals.

    TRACE, like --run, is an id, the beginning of one, or a name. Piped, or with NO_COLOR set, the
    lines are plain: one a sentence.

    \b
    Example:
      tracelab show 1f520f --run demo
    """
    from rich.console import Console

    from tracelab.store.connect import open_reader
    from tracelab.view.show import show_trace

    console = Console(markup=False, emoji=False, highlight=False)
    with open_reader(Home.at(home).database) as con:
        show_trace(con, trace, run, method, console, say=tell)
