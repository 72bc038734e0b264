"""`tracelab bench audit`: how often audits of failures with planted causes are right. Thin."""

from __future__ import annotations

import json

import click

from tracelab.cli.support import guarded


@click.command("audit")
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@guarded
def audit_bench(
    seed: int, planted: int, flaky_tasks: int, rollouts: int, initial: int, split: str,
    engine: str, as_json: bool,
) -> None:  # fmt: skip
    """Audit failures of the bundled model whose decisive step is known.

    Prints how often the named step and agent are right, how often the 90 % credible set holds the
    step, and how often an audit is sure of a step where no step is to blame.

    \b
    Example:
      tracelab bench audit --seed 1 --json
    """
    from benchmarks.bench.audit import BenchOptions, config_of, run_bench, summary

    options = BenchOptions(
        seed=seed, planted=planted, flaky_tasks=flaky_tasks, engine=engine, rollouts=rollouts,
        initial=initial, split=split,
    )  # fmt: skip
    bench = run_bench(options, lambda text: click.echo(text, err=True))
    found = summary(bench, options, config_of(options).audit)
    if as_json:
        click.echo(json.dumps(found))
        return
    for name, value in found.items():
        click.echo(f"{name:28} {json.dumps(value)}")
