"""`tracelab grounding`: what is supported by its context, and what is not. Thin."""

from __future__ import annotations

import click

from tracelab.cli.support import format_options, guarded, home_option
from tracelab.store.home import Home


@click.command()
@click.option("--run", help="Run [default: the latest that finished with contexts].")
@click.option("--trace", help="Trace [default: all].")
@click.option("--label", type=click.Choice(["grounded", "diffuse", "memory", "derived",
                                            "parametric", "ungrounded", "insufficient"]),
              help="Only these.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@format_options
@home_option
@guarded
def grounding(
    run: str | None, trace: str | None, label: str | None, limit: int, form: str | None,
    home: str | None,
) -> None:  # fmt: skip
    """List statements: supported by the context and by which span, from memory, or derived.

    \b
    Example:
      tracelab grounding --label ungrounded
    """
    from tracelab.cli.sql import run_query

    given = {"run": run, "trace": trace, "label": label, "limit": str(limit)}
    params = tuple(f"{k}={v}" for k, v in given.items() if v is not None)
    run_query("grounding", params, form, Home.at(home))
