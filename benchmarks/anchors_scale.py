"""One long trace: planning, counting, estimating. 300 sentences, 30,000 tokens, 5,000 rollouts.

python -m benchmarks.anchors_scale
"""

from __future__ import annotations

import time
import tracemalloc

import numpy as np

from tracelab.core.item import ModelRef, Outcome, Rollout, Sampling
from tracelab.core.trace import TokenizedTrace, Trace, Turn
from tracelab.core.unit import Unit
from tracelab.stats.value_curve import fit
from tracelab.studies.anchors import counterfactual, links, pooled, resample

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


def main() -> None:
    """Time each part alone."""
    rng = np.random.default_rng(0)
    tokens, units = trace()
    model = ModelRef("m", "r", "float32")
    seen = rollouts(rng)

    def timed(name: str, action):  # type: ignore[no-untyped-def]
        began = time.perf_counter()
        found = action()
        print(f"{name:45s} {time.perf_counter() - began:6.2f} s")
        return found

    timed(
        "plan, 301 items",
        lambda: resample.plan(tokens, units, model=model, sampling=Sampling(), rollouts=8, seed=0),
    )
    tracemalloc.start()
    counts = timed("tally, 5,000 rollouts", lambda: resample.tally(units, seen))
    print(f"{'  memory of the tally':45s} {tracemalloc.get_traced_memory()[1] / 1e6:6.1f} MB")
    tracemalloc.stop()
    timed("resample.estimate", lambda: resample.estimate("t", units, counts))
    prior = timed("value_curve.fit", lambda: fit([counts.curve()], 12))
    timed("pooled.estimate", lambda: pooled.estimate("t", units, counts, prior, delta=0.1))
    timed(
        "counterfactual.estimate",
        lambda: counterfactual.estimate("t", units, seen, similarity_name="x", rng=rng),
    )
    timed(
        "links.estimate, 44,850 pairs",
        lambda: links.estimate("t", units, seen, similarity_name="x"),
    )


if __name__ == "__main__":
    main()
