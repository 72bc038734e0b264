"""A fast subset of the model card: the bars, re-measured with the sampler on a few problems."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from benchmarks.testbed import tokenizer
from benchmarks.testbed.bars import FillerEffect, Measured, rows
from benchmarks.testbed.figures import agent_figures, reasoning_figures
from benchmarks.testbed.measure import prompt_of, value_at
from benchmarks.testbed.reference import TURN, Reference
from tracelab.testbed import MODEL_DIR, problems
from tracelab.testbed.agent_labels import AgentEpisode, read
from tracelab.testbed.agent_world import AgentTask, MarketEnvironment, tasks
from tracelab.testbed.market import Problem
from tracelab.testbed.world import label

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not (MODEL_DIR / "model.safetensors").exists(), reason="the model is not trained yet"
    ),
]
SEED = 77


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(MODEL_DIR)


@pytest.fixture(scope="module")
def responses(reference: Reference) -> list[tuple[Problem, str]]:
    rng = np.random.default_rng(SEED)
    asked = [
        p for f in range(3) for p in problems(4, SEED, phrasing=f, missing=False, hinted=False)
    ]
    asked += problems(2, SEED, missing=True) + problems(5, SEED, hinted=True)
    return [
        (problem, text)
        for problem in asked
        for text, count in reference.continued(prompt_of(problem), 60, rng, 200)
        for _ in range(count)
    ]


def endings(
    reference: Reference, asked: AgentTask, steps: tuple[str, ...], n: int, rng: np.random.Generator
) -> Iterator[AgentEpisode]:
    """`n` episodes of a task."""
    env = MarketEnvironment()
    env.restore(asked, steps)
    if env.done:
        yield from [read(asked, steps)] * n
        return
    chat = tokenizer.render(env.messages, add_generation_prompt=True)
    for text, count in reference.continued(chat, n, rng, TURN):
        yield from endings(reference, asked, (*steps, text), count, rng)


def test_reasoning_holds_its_bars(responses: list[tuple[Problem, str]]) -> None:
    """Each bar, but for a margin where few cases decide it."""
    counts = reasoning_figures(responses)
    margin = {"right plan": 0.06, "repair": 0.1, "hint": 0.15, "recheck after": 0.05}
    judged = 0
    for row in rows(Measured(counts)):
        if not row.n or not row.bar or row.name.startswith("cost"):
            continue
        slack = next((m for start, m in margin.items() if row.name.startswith(start)), 0.005)
        lo, hi = bounds(row.bar)
        assert lo - slack <= row.value <= hi + slack, row
        judged += 1
    assert judged >= 12


def bounds(bar: str) -> tuple[float, float]:
    """The range that a bar's words allow."""
    words = bar.split()
    if words[0] == ">=":
        return float(words[1]), 1.0
    if words[0] == "<=":
        return 0.0, float(words[1])
    return float(words[0]), float(words[2])


def test_agents_hold_their_bars(reference: Reference) -> None:
    rng = np.random.default_rng(SEED)
    episodes = [e for t in tasks(8, SEED) for e in endings(reference, t, (), 25, rng)]
    counts = agent_figures(episodes)
    assert counts["tool turns well-formed"].share > 0.98
    assert 0.35 < counts["agent success"].share < 0.85
    single = counts["failures with a single planted cause"]
    assert single.k / len(episodes) > 0.2


def test_filler_does_nothing(reference: Reference, responses: list[tuple[Problem, str]]) -> None:
    """The value before and after a few fillers, to three joint standard errors."""
    rng = np.random.default_rng(SEED)
    found = []
    for problem, text in responses[:: len(responses) // 12][:6]:
        spot = next((s for s in label(problem, text) if s.role == "filler"), None)
        if spot is None:
            continue
        before, after = (
            value_at(reference.net, reference.tok, problem, text[:end], 250, rng)
            for end in (spot.start, spot.end)
        )
        found.append(FillerEffect(before, after, 250))
    assert len(found) >= 3
    z = np.array([f.delta / f.error for f in found])
    assert (z**2).sum() < len(z) + 3 * (2 * len(z)) ** 0.5
