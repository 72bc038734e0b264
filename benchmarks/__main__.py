"""`python -m benchmarks NAME [options] [--json]`; without a name: what there is.

Figures go to stdout, progress to stderr.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from benchmarks.registry import BENCHMARKS, Benchmark
from tracelab.cli.support import guarded

HELP = {"help_option_names": ["-h", "--help"]}


class Listed(click.Group):
    """Lists commands in their registry's order; their dashes may be typed as underscores."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name."""
        return super().get_command(ctx, cmd_name.replace("_", "-"))

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, as registered."""
        return list(self.commands)


@click.group(cls=Listed, context_settings=HELP, invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Measure tracelab against planted truth, published numbers and its peers.

    \b
    Example:
      python -m benchmarks anchors --json
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _printing(benchmark: Benchmark) -> Callable[..., None]:
    """A benchmark that prints what it found, and exits with what that means."""

    @wraps(benchmark)
    def command(as_json: bool, **options: Any) -> None:
        figures = benchmark(**options)
        if as_json:
            click.echo(json.dumps(figures.found))
        else:
            figures.show(figures.found)
        sys.exit(figures.exit_code)

    option = click.option("--json", "as_json", is_flag=True, help="One JSON object.")
    return option(guarded(command))


for name, benchmark in BENCHMARKS.items():
    first_line = (benchmark.__doc__ or "").partition("\n")[0]
    main.command(name, context_settings=HELP, short_help=first_line)(_printing(benchmark))

if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
