"""`python -m benchmarks cite`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("cite", order=20)
@click.option("--engine", type=click.Choice(["transformers", "vllm", "both"]),
              default="transformers", show_default=True)  # fmt: skip
@click.option("--contexts", type=click.IntRange(min=1),
              help="Testbed contexts [default: 200, with --quick 12].")  # fmt: skip
@click.option("--part", "parts", multiple=True,
              type=click.Choice(["speed", "planted", "quality"]),
              help="Only this; may be repeated [default: all].")  # fmt: skip
@click.option("--quick", is_flag=True, help="About a minute; wide errors.")
@click.option("--quiet", is_flag=True, help="No progress.")
def cite(
    engine: str, contexts: int | None, parts: tuple[str, ...], quick: bool, quiet: bool
) -> Figures:
    """Context attribution against planted truth and context-cite.

    Seconds for 64 ablations of both on the same model and prompts; what is found in fresh testbed
    contexts; LDS, precision@k and coverage for 20, 100 and 500 sources.

    \b
    Example:
      python -m benchmarks cite --quick --json
    """
    from dataclasses import replace

    from benchmarks.cite import run

    sizes = run.QUICK if quick else run.FULL
    if contexts is not None:
        sizes = replace(sizes, contexts=contexts)
    found = run.bench(
        engines=("transformers", "vllm") if engine == "both" else (engine,),
        sizes=sizes, parts=parts or run.PARTS, quiet=quiet,
    )  # fmt: skip
    return Figures(found, run.show)
