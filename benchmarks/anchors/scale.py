"""One long trace: planning, counting, estimating. 300 sentences, 30,000 tokens, 5,000 rollouts."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any, TypeVar

import click
import numpy as np

from tracelab.core.item import ModelRef, Outcome, Rollout, Sampling
from tracelab.core.trace import TokenizedTrace, Trace, Turn
from tracelab.core.unit import Unit
from tracelab.stats.value_curve import fit
from tracelab.studies.anchors import counterfactual, links, pooled, resample
from tracelab.studies.anchors.tally import tally

T = TypeVar("T")

SENTENCES, TOKENS, ROLLOUTS = 300, 30_000, 5_000


def trace() -> tuple[TokenizedTrace, list[Unit]]:
    """A trace of sentences of equal length."""
    size = TOKENS // SENTENCES
    text = "".join(f" sentence {i:05d}" for i in range(SENTENCES))
    wide = len(text) // SENTENCES
    units = []
    for i in range(SENTENCES):
        chars, own = (i * wide, (i + 1) * wide), (i * size, (i + 1) * size)
        units.append(Unit("sentence", i, *chars, *own, text[chars[0] : chars[1]]))
    starts = tuple(min(t * wide // size, len(text)) for t in range(TOKENS))
    tokens = TokenizedTrace(
        Trace((Turn("user", "q"), Turn("assistant", text)), "long"),
        tuple(range(200)),
        tuple(range(TOKENS)),
        starts,
    )
    return tokens, units


def rollouts(rng: np.random.Generator) -> list[Rollout]:
    """Rollouts that follow the trace for a while, and echo some of it."""
    size = TOKENS // SENTENCES
    found = []
    for k in range(ROLLOUTS):
        b = int(rng.integers(0, SENTENCES))
        leaves = min(b * size + int(rng.exponential(60)), TOKENS)
        reward = float(rng.random() < (0.3 if b < 120 else 0.9))
        outcome = Outcome("7" if reward else "8", reward, "graded")
        found.append(
            Rollout(f"k{b}", k, b, b * size, leaves, outcome, 900, f" other {k % 40}",
                    float(rng.random()), int(rng.integers(0, 2**60)) << (b % 200))
        )  # fmt: skip
    return found


def measure() -> dict[str, Any]:
    """Seconds of each part alone, and the memory of counting, MB."""
    rng = np.random.default_rng(0)
    tokens, units = trace()
    model = ModelRef("m", "r", "float32")
    seen = rollouts(rng)
    seconds: dict[str, float] = {}

    def timed(name: str, action: Callable[[], T]) -> T:
        began = time.perf_counter()
        found = action()
        seconds[name] = round(time.perf_counter() - began, 2)
        return found

    timed(
        "plan, 301 items",
        lambda: resample.plan(tokens, units, model=model, sampling=Sampling(), rollouts=8, seed=0),
    )
    tracemalloc.start()
    counts = timed("tally, 5,000 rollouts", lambda: tally(units, seen))
    memory = round(tracemalloc.get_traced_memory()[1] / 1e6, 1)
    tracemalloc.stop()
    timed("resample.estimate", lambda: resample.estimate("t", units, counts))
    prior = timed("value_curve.fit", lambda: fit([counts.curve()]))
    timed("pooled.estimate", lambda: pooled.estimate("t", units, counts, prior, delta=0.1))
    timed(
        "counterfactual.estimate",
        lambda: counterfactual.estimate("t", units, seen, similarity_name="x", rng=rng),
    )
    timed(
        "links.estimate, 44,850 pairs",
        lambda: links.estimate("t", units, seen, similarity_name="x"),
    )
    return {
        "sentences": SENTENCES, "tokens": TOKENS, "rollouts": ROLLOUTS,
        "seconds": seconds, "tally_mb": memory,
    }  # fmt: skip


def show(found: dict[str, Any]) -> None:
    """Print the seconds, one part a line."""
    for name, seconds in found["seconds"].items():
        click.echo(f"{name:45s} {seconds:6.2f} s")
    click.echo(f"{'memory of the tally':45s} {found['tally_mb']:6.1f} MB")
