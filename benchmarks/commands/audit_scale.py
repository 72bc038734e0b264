"""`python -m benchmarks audit-scale`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("audit-scale", order=52)
@click.option("--runs", type=click.IntRange(min=4), default=10_000, show_default=True,
              help="Of agents, of 12 steps each.")  # fmt: skip
def audit_scale(runs: int) -> Figures:
    """Seconds and memory to ingest, audit and query many runs.

    \b
    Example:
      python -m benchmarks audit-scale --runs 10000
    """
    from benchmarks.audit.scale import measure

    return Figures(measure(runs))
