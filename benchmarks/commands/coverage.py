"""`python -m benchmarks coverage`."""

from __future__ import annotations

import click

from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("coverage", order=12)
@click.option("--world", "worlds", multiple=True, help="Only this one; may be repeated.")
@click.option("--rollouts", multiple=True, help="A number a boundary, or `adaptive`; repeatable. "
              "Default: 4, 8, 16, 30, 60, adaptive.")  # fmt: skip
@click.option("--keep", type=click.Choice(["exact", "estimated", "both"]), default="both",
              show_default=True, help="How the chance of each sentence is known.")  # fmt: skip
@click.option("--runs", type=click.IntRange(min=1), default=8, show_default=True,
              help="Simulated runs, of about 400 sentences each.")  # fmt: skip
@click.option("--seed", type=int, default=20_000, show_default=True)
def coverage(
    worlds: tuple[str, ...], rollouts: tuple[str, ...], keep: str, runs: int, seed: int
) -> Figures:
    """Whether intervals of sentences hold in worlds they were not made for.

    \b
    Example:
      python -m benchmarks coverage --world long --world drift --json
    """
    from benchmarks.anchors.coverage import ADAPTIVE, ROLLOUTS, measure, show
    from tests.stats.worlds import TUNED, WORLDS

    unknown = set(worlds) - set(WORLDS)
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: not in {', '.join(WORLDS)}",
                                 param_hint="--world")  # fmt: skip
    bad = [n for n in rollouts if n != ADAPTIVE and not (n.isdigit() and int(n) > 0)]
    if bad:
        raise click.BadParameter(f"{bad[0]!r} is neither a number nor `adaptive`",
                                 param_hint="--rollouts")  # fmt: skip
    wanted = [n if n == ADAPTIVE else int(n) for n in rollouts] or [*ROLLOUTS, ADAPTIVE]
    keeps = {"exact": [True], "estimated": [False], "both": [True, False]}[keep]
    rows = []
    for row in measure(worlds or list(WORLDS), wanted, keeps, runs, seed):
        rows.append(row)
        figures = (row["coverage"], row["coverage_anchors"], row["coverage_value"], row["width"])
        said = " ".join("-" if f is None else f"{f:.3f}" for f in figures)
        click.echo(f"{row['world']} {row['p']} {row['rollouts']}: {said}", err=True)
    return Figures({"rows": rows, "runs": runs, "seed": seed, "tuned_on": list(TUNED)}, show)
