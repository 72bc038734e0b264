"""`python -m benchmarks faults`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("faults", order=31)
@click.option("--world", "worlds", multiple=True, help="Only this one; may be repeated.")
@click.option("--keep", type=click.Choice(["exact", "estimated", "both"]), default="both",
              show_default=True, help="How the chance of each step is known.")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True,
              help="Failed runs of each world.")  # fmt: skip
@click.option("--seed", type=int, default=30_000, show_default=True)
def faults(worlds: tuple[str, ...], keep: str, runs: int, seed: int) -> Figures:
    """Whether a localized step is the right one: one fault, several, many small ones, none.

    \b
    Example:
      python -m benchmarks faults --world near --world coin --json
    """
    from benchmarks.audit.faults import measure, show
    from tests.stats.faults import FAULTS, TUNED

    unknown = set(worlds) - set(FAULTS)
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: not in {', '.join(FAULTS)}",
                                 param_hint="--world")  # fmt: skip
    keeps = {"exact": [True], "estimated": [False], "both": [True, False]}[keep]
    rows = []
    for row in measure(worlds or list(FAULTS), keeps, runs, seed):
        rows.append(row)
        click.echo(f"{row['world']} {row['p']}: localized {row['localized']:.2f}", err=True)
    return Figures({"rows": rows, "runs": runs, "seed": seed, "tuned_on": list(TUNED)}, show)
