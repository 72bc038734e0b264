"""`python -m benchmarks feed`."""

from __future__ import annotations

import click

from benchmarks.feed import World, first_filled, simulate
from benchmarks.registry import BENCHMARKS, Figures


@BENCHMARKS.register("feed")
@click.option("--replicas", type=click.IntRange(1), default=8, show_default=True)
@click.option("--traces", type=click.IntRange(1), default=800, show_default=True)
@click.option("--sigma", type=float, default=1.0, show_default=True, help="Of log-normal lengths.")
@click.option("--seed", type=int, default=0, show_default=True)
def feed(replicas: int, traces: int, sigma: float, seed: int) -> Figures:
    """Simulate how busy replicas are kept, against barriers and filling the first one first.

    \b
    Example:
      python -m benchmarks feed --replicas 4
    """
    world = World(replicas=replicas, sigma=sigma, traces=traces, boundaries=8)
    ways = {
        "tracelab": simulate(world, seed),
        "rounds wait for each other": simulate(world, seed, barrier=True),
        "first replica first": simulate(world, seed, first_filled),
    }
    found = {
        name: {
            "utilisation": round(k.utilisation, 3),
            "idle_while_owed": round(k.idle, 3),
            "prefix_hits": round(k.hits, 3),
            "time": round(k.time, 1),
        }
        for name, k in ways.items()
    }
    return Figures(found)
