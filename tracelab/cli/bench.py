"""`tracelab bench NAME`: measure tracelab itself. Thin; each benchmark is a module of its own."""

from __future__ import annotations

import json
from pathlib import Path

import click

from tracelab.cli.audit import who_and_when
from tracelab.cli.audit_bench import audit_bench
from tracelab.cli.support import guarded, home_option
from tracelab.store.home import Home


@click.group()
def bench() -> None:
    """Measure tracelab against planted truth, published numbers and its peers.

    \b
    Example:
      tracelab bench anchors --json
    """


@bench.command("anchors")
@click.option("--engine", type=click.Choice(["vllm", "transformers"]), default="vllm",
              show_default=True)  # fmt: skip
@click.option("--traces", type=click.IntRange(min=1), help="Only so many of the held-out traces.")
@click.option("--repetitions", type=click.IntRange(1, 8), default=4, show_default=True,
              help="Replays of each variant, from different parts of the pool.")  # fmt: skip
@click.option("--published", type=click.Path(path_type=Path), metavar="DIR",
              help="Thought Anchors folders: replay on their accuracies too.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--quiet", is_flag=True, help="No progress.")
@home_option
@guarded
def anchors_command(
    engine: str,
    traces: int | None,
    repetitions: int,
    published: Path | None,
    as_json: bool,
    quiet: bool,
    home: str | None,
) -> None:
    """Tokens for the published error of an importance, and the coverage of the intervals.

    Runs the published recipe once on the testbed's held-out traces (about ten minutes on two
    cores; a second call finds it in the journal) and replays every variant from it.

    \b
    Example:
      tracelab bench anchors --json
    """
    from benchmarks.bench.anchors_run import bench as run
    from benchmarks.bench.anchors_run import show

    found = run(Home.at(home), engine=engine, limit=traces, repetitions=repetitions, quiet=quiet)
    if published is not None:
        import numpy as np

        from benchmarks.bench.published import load, replay

        found["published"] = replay(load(published), np.random.default_rng(0))
    if as_json:
        click.echo(json.dumps(found))
    else:
        show(found)


@bench.command("cite")
@click.option("--engine", type=click.Choice(["transformers", "vllm", "both"]),
              default="transformers", show_default=True)  # fmt: skip
@click.option("--contexts", type=click.IntRange(min=1),
              help="Testbed contexts [default: 200, with --quick 12].")  # fmt: skip
@click.option("--part", "parts", multiple=True,
              type=click.Choice(["speed", "planted", "quality"]),
              help="Only this; may be repeated [default: all].")  # fmt: skip
@click.option("--quick", is_flag=True, help="About a minute; wide errors.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--quiet", is_flag=True, help="No progress.")
@guarded
def cite_command(
    engine: str, contexts: int | None, parts: tuple[str, ...], quick: bool, as_json: bool,
    quiet: bool,
) -> None:  # fmt: skip
    """Context attribution against the context-cite package, planted truth and simulations.

    Seconds for 64 ablations of both on the same model and prompts; what is found in fresh testbed
    contexts; LDS, precision@k and coverage for 20, 100 and 500 sources.

    \b
    Example:
      tracelab bench cite --quick --json
    """
    from dataclasses import replace

    from benchmarks.bench import cite_run

    sizes = cite_run.QUICK if quick else cite_run.FULL
    if contexts is not None:
        sizes = replace(sizes, contexts=contexts)
    found = cite_run.bench(
        engines=("transformers", "vllm") if engine == "both" else (engine,),
        sizes=sizes, parts=parts or cite_run.PARTS, quiet=quiet,
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found))
    else:
        cite_run.show(found)


bench.add_command(who_and_when)
bench.add_command(audit_bench)
