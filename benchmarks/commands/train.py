"""`python -m benchmarks train`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.registry import BENCHMARKS, Figures
from tracelab.testbed import MODEL_DIR


@BENCHMARKS.register("train", order=62)
@click.option("--out", type=click.Path(path_type=Path), default=MODEL_DIR,
              help="Folder to write [default: the bundled model's].")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=1), default=1800, show_default=True,
              help="Optimiser steps.")  # fmt: skip
@click.option("--seconds", type=float, help="Train by time instead of by steps.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue from the checkpoint.")
@click.option("--processes", type=click.IntRange(min=1),
              help="[default: the cores, 2 at most; 1 on a GPU].")  # fmt: skip
def train(
    out: Path, steps: int, seconds: float | None, seed: int, resume: bool, processes: int | None
) -> Figures:
    """Train the testbed's model from scratch.

    No data but the world's. 26 minutes on two idle cores; a GPU is used where there is one.

    \b
    Examples:
      python -m benchmarks train --out DIR
      python -m benchmarks train --out DIR --resume
    """
    from benchmarks.testbed.train import Settings, train_model

    return Figures(train_model(Settings(out, steps, seconds, seed, resume), processes))
