"""`python -m benchmarks anchors`."""

from __future__ import annotations

from pathlib import Path

import click

from benchmarks.registry import BENCHMARKS, Figures
from tracelab.cli.support import home_option


@BENCHMARKS.register("anchors", order=10)
@click.option("--engine", type=click.Choice(["vllm", "transformers"]), default="vllm",
              show_default=True)  # fmt: skip
@click.option("--traces", type=click.IntRange(min=1), help="Only so many of the held-out traces.")
@click.option("--repetitions", type=click.IntRange(1, 8), default=4, show_default=True,
              help="Replays of each variant, from different parts of the pool.")  # fmt: skip
@click.option("--published", type=click.Path(path_type=Path), metavar="DIR",
              help="Thought Anchors folders: replay on their accuracies too.")  # fmt: skip
@click.option("--quiet", is_flag=True, help="No progress.")
@home_option
def anchors(
    engine: str,
    traces: int | None,
    repetitions: int,
    published: Path | None,
    quiet: bool,
    home: str | None,
) -> Figures:
    """What an importance costs in tokens, and whether intervals cover.

    Runs the published recipe once on the testbed's held-out traces (about ten minutes on two
    cores; a second call finds it in the journal) and replays every variant from it.

    \b
    Example:
      python -m benchmarks anchors --json
    """
    from benchmarks.anchors.run import bench, show
    from tracelab.store.home import Home

    found = bench(Home.at(home), engine=engine, limit=traces, repetitions=repetitions, quiet=quiet)
    if published is not None:
        import numpy as np

        from benchmarks.anchors.published import load, replay

        found["published"] = replay(load(published), np.random.default_rng(0))
    return Figures(found, show)
