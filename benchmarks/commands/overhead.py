"""`python -m benchmarks overhead`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("overhead", order=40)
@click.option("--repeats", type=click.IntRange(min=1), default=3, show_default=True,
              help="Timed rounds, after one that warms up.")  # fmt: skip
@click.option("--problems", type=click.IntRange(min=1), default=6, show_default=True,
              help="Questions of the testbed.")  # fmt: skip
@click.option("--rollouts", type=click.IntRange(min=1), default=40, show_default=True,
              help="A boundary.")  # fmt: skip
def overhead(repeats: int, problems: int, rollouts: int) -> Figures:
    """What a whole run adds to `LLM.generate` on the same requests.

    Both sides alternate on one machine; the ratio of the medians is the figure.

    \b
    Example:
      python -m benchmarks overhead --problems 4 --rollouts 30
    """
    from benchmarks.overhead import measure

    return Figures(measure(repeats, problems, rollouts, lambda text: click.echo(text, err=True)))
