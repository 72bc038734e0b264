"""`python -m benchmarks card`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.registry import BENCHMARKS, Figures
from tracelab.testbed import MODEL_DIR


@BENCHMARKS.register("card", order=60)
@click.option("--model", type=click.Path(path_type=Path), default=MODEL_DIR,
              help="Folder with the weights [default: the bundled model's].")  # fmt: skip
@click.option("--out", type=click.Path(path_type=Path),
              help="Folder to write [default: the model's].")  # fmt: skip
@click.option("--seed", type=int, default=1000, show_default=True,
              help="Of the problems and the sampling.")  # fmt: skip
@click.option("--fast", is_flag=True, help="A quarter of the cases; the card says so.")
@click.option("--render", is_flag=True, help="Only README.md, from card.json.")
def card(model: Path, out: Path | None, seed: int, fast: bool, render: bool) -> Figures:
    """Measure every bar of the testbed's model, and write its card.

    Writes `card.json` (every figure and count) and `README.md`; about 10 minutes on two cores.
    Exits with 1 when the point estimate of any bar misses it.

    \b
    Examples:
      python -m benchmarks card
      python -m benchmarks card --fast --out DIR
    """
    from benchmarks.testbed.card import missed, show, write

    facts = write(model, out or model, seed=seed, fast=fast, render=render)
    return Figures(facts, show, exit_code=int(missed(facts)))
