"""`python -m benchmarks truth`."""

from __future__ import annotations

import os
from pathlib import Path

import click

from benchmarks.registry import BENCHMARKS, Figures
from tracelab.testbed import MODEL_DIR


@BENCHMARKS.register("truth", order=61)
@click.option("--traces", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--rollouts", type=click.IntRange(min=1), default=2000, show_default=True,
              help="A boundary of a trace.")  # fmt: skip
@click.option("--contexts", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--episodes", type=click.IntRange(min=1), default=700, show_default=True,
              help="Played; only failures are kept.")  # fmt: skip
@click.option("--episode-rollouts", type=click.IntRange(min=1), default=200, show_default=True,
              help="Re-executions a step.")  # fmt: skip
@click.option("--seed", type=int, default=2000, show_default=True,
              help="Of the problems and tasks; the card uses others.")  # fmt: skip
@click.option("--seconds", type=float, default=1e9, help="Stop after this long; run it again.")
@click.option("--processes", type=click.IntRange(min=1), default=min(2, os.cpu_count() or 1),
              help="[default: the cores, 2 at most].")  # fmt: skip
@click.option("--model", type=click.Path(path_type=Path), default=MODEL_DIR,
              help="Folder with the weights [default: the bundled model's].")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder to write [default: the committed tables'].")  # fmt: skip
def truth(
    seconds: float, processes: int, model: Path, out: Path | None, **settings: int
) -> Figures:
    """Make the reference values that methods are held to.

    About an hour on one core. A stopped run continues where it was; exits with 3 while parts are
    still to be made.

    \b
    Examples:
      python -m benchmarks truth --seconds 600
      python -m benchmarks truth --traces 2 --rollouts 200 --contexts 2 --episodes 4 --out DIR
    """
    from benchmarks.testbed.truth import OUT, make

    found = make(model, out or OUT, settings, processes, seconds)
    return Figures(found, exit_code=3 if found["missing"] else 0)
