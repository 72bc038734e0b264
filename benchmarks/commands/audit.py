"""`python -m benchmarks audit`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("audit", order=30)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True,
              help="Of tasks, episodes and re-executions.")  # fmt: skip
@click.option("--planted", type=click.IntRange(min=1), default=200, show_default=True,
              help="Fewest failures with one planted cause.")  # fmt: skip
@click.option("--flaky-tasks", type=click.IntRange(min=0), default=160, show_default=True,
              help="Tasks played in an environment that fails at random.")  # fmt: skip
@click.option("--rollouts", type=click.IntRange(min=1), default=16, show_default=True,
              help="Most re-executions from before one step.")  # fmt: skip
@click.option("--initial", type=click.IntRange(min=1), default=4, show_default=True,
              help="Re-executions a step and round.")  # fmt: skip
@click.option("--split", type=click.Choice(["development", "evaluation"]), default="evaluation",
              show_default=True, help="Questions the model was not trained on.")  # fmt: skip
@click.option("--engine", type=click.Choice(["vllm", "transformers"]), default="vllm",
              show_default=True)  # fmt: skip
def audit(
    seed: int,
    planted: int,
    flaky_tasks: int,
    rollouts: int,
    initial: int,
    split: str,
    engine: str,
) -> Figures:
    """Audits of failures whose decisive step is known.

    The bundled model plays, and its failures are audited. Prints how often the named step and agent
    are right, how often the 90 % credible set holds the step, and how often an audit is sure of a
    step where no step is to blame.

    \b
    Example:
      python -m benchmarks audit --seed 1 --json
    """
    from benchmarks.audit.run import BenchOptions, run_bench, summary

    options = BenchOptions(
        seed=seed, planted=planted, flaky_tasks=flaky_tasks, engine=engine, rollouts=rollouts,
        initial=initial, split=split,
    )  # fmt: skip
    bench = run_bench(options, lambda text: click.echo(text, err=True))
    return Figures(summary(bench, options))
