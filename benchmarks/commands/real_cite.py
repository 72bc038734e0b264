"""`python -m benchmarks real-cite`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("real-cite", order=21)
@click.option("--passages", type=click.IntRange(min=2), default=40, show_default=True,
              help="The first ones of 40.")  # fmt: skip
@click.option("--timed", type=click.IntRange(min=0), default=2, show_default=True,
              help="Passages that the context-cite package explains too; processor time.",
              )  # fmt: skip
@click.option("--sampled", type=click.IntRange(min=0), default=4, show_default=True,
              help="Passages for which answers are sampled under masks.")  # fmt: skip
def real_cite(passages: int, timed: int, sampled: int) -> Figures:
    """Context attribution on real language, by a small real model.

    40 passages of five sentences that we wrote, one of which states the answer. All 32 masks of
    each are scored, so effects are known exactly: LDS on half of the masks from the other half, how
    often the stating sentence comes first, what the answer loses without the first, coverage of
    90 % intervals, processor time beside the context-cite package, and effects on sampled answers.

    \b
    Example:
      python -m benchmarks real-cite --passages 10 --json
    """
    from benchmarks.real.cite import measure
    from benchmarks.real_model import real_model
    from tracelab.run.wiring import quiet_transformers

    quiet_transformers()
    model = str(real_model())
    return Figures(measure(model, passages, timed, sampled, lambda t: click.echo(t, err=True)))
