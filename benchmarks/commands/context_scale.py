"""`python -m benchmarks context-scale`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("context-scale", order=51)
@click.option("--part", type=click.Choice(["long", "batch"]), required=True,
              help="One context of 1,000 sources, or many small ones.")  # fmt: skip
@click.option("--engine", type=click.Choice(["transformers", "vllm"]),
              help="[default: transformers for long, vllm for batch].")  # fmt: skip
@click.option("--documents", type=click.IntRange(min=1), default=1, show_default=True,
              help="Of the long context.")  # fmt: skip
@click.option("--contexts", type=click.IntRange(min=1), default=1_000, show_default=True,
              help="Of the batch.")  # fmt: skip
@click.option("--seed", type=int, default=0, show_default=True,
              help="Of when the driver is killed.")  # fmt: skip
def context_scale(
    part: str, engine: str | None, documents: int, contexts: int, seed: int
) -> Figures:
    """One context of 32,000 tokens, or 1,000 small ones, killed midway.

    \b
    Examples:
      python -m benchmarks context-scale --part long
      python -m benchmarks context-scale --part batch --contexts 1000
    """
    from benchmarks.cite.scale import batch, long_one
    from tracelab.run.wiring import quiet_transformers

    quiet_transformers()
    if part == "long":
        return Figures(long_one(engine or "transformers", documents))
    return Figures(batch(engine or "vllm", contexts, seed))
