"""Guesses about the decisive step of a failed run that need no model: the bar for every judge.

Each floor gives a run a distribution over its steps and one over its agents; a deterministic rule
puts all mass on one step. Rules that learn a position do so from the *other* labelled runs (leave
one out), ties going to the earliest. The rules are those found to matter on Who&When, where
several published judges do not separate from them.

Pure: no randomness; the random rules report their exact expectation instead of a draw.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tracelab.core.episode import Episode

ERRORS = re.compile(r"error|traceback|exception|failed|exitcode: [1-9]", re.IGNORECASE)
"""What a step that reports a failure says."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A floor's belief about one run.

    Attributes:
        steps: Probability of each step, [n_steps]; sums to 1.
        agents: Probability of each agent; sums to 1, or to less where a step has no agent.
    """

    steps: tuple[float, ...]
    agents: dict[str, float]

    @property
    def step(self) -> int | None:
        """The one step it names; None when it spreads its mass."""
        best = max(range(len(self.steps)), key=self.steps.__getitem__)
        return best if self.steps[best] == 1.0 else None


def uniform(episode: Episode) -> Guess | None:
    """Any step alike, and any agent alike."""
    n, agents = len(episode.steps), episode.agents()
    if n == 0:
        return None
    return Guess((1 / n,) * n, {a: 1 / len(agents) for a in agents})


def uniform_llm(episode: Episode) -> Guess | None:
    """Any step that a model wrote alike, and the agent that wrote it."""
    written = llm_steps(episode)
    return _spread(episode, written) if written else None


def first_step(episode: Episode) -> Guess | None:
    """Step 0."""
    return _at(episode, 0) if episode.steps else None


def last_llm_step(episode: Episode) -> Guess | None:
    """The last step that a model wrote."""
    written = llm_steps(episode)
    return _at(episode, written[-1]) if written else None


def busiest_agent(episode: Episode) -> Guess | None:
    """The agent that wrote most steps (the first to appear, of several), and its first step."""
    by = Counter(episode.steps[i].agent for i in llm_steps(episode))
    if not by:
        return None
    most = max(by.values())
    return _at(episode, next(i for i in llm_steps(episode) if by[episode.steps[i].agent] == most))


def error_rule(episode: Episode) -> Guess | None:
    """The step before the first reported error, else the second step: of workers.

    Workers are models that do not only hand work to others. The report of an error is any step
    after the first that matches `ERRORS`; who is blamed is the last worker before it.

    The pattern, and the second step where there is no error, were chosen with the odd-numbered
    files of Who&When at hand, so its accuracy there is partly in-sample.
    """
    workers = [i for i in llm_steps(episode) if "coordinator" not in episode.steps[i].flags]
    workers = workers or llm_steps(episode)
    if not workers:
        return None
    for step in episode.steps[1:]:
        if step.index > workers[0] and ERRORS.search(step.content):
            return _at(episode, max(i for i in workers if i < step.index))
    return _at(episode, workers[min(1, len(workers) - 1)])


def step_mode(cases: Sequence[Episode]) -> list[Guess | None]:
    """The step that is decisive most often in the other runs; the last step of a shorter run."""
    seen = [c.label.step if c.label is not None else None for c in cases]
    return [
        None if mode is None or not c.steps else _at(c, min(mode, len(c.steps) - 1))
        for c, mode in zip(cases, _modes_of_others(seen), strict=True)
    ]


def llm_step_mode(cases: Sequence[Episode]) -> list[Guess | None]:
    """As `step_mode`, counting only steps that a model wrote."""
    written = [llm_steps(c) for c in cases]
    seen: list[int | None] = []
    for c, steps in zip(cases, written, strict=True):
        step = c.label.step if c.label is not None else None
        seen.append(steps.index(step) if step is not None and step in steps else None)
    return [
        None if mode is None or not steps else _at(c, steps[min(mode, len(steps) - 1)])
        for c, steps, mode in zip(cases, written, _modes_of_others(seen), strict=True)
    ]


def _each(rule: Callable[[Episode], Guess | None]) -> Callable[..., list[Guess | None]]:
    return lambda cases: [rule(case) for case in cases]


FLOORS: dict[str, Callable[[Sequence[Episode]], list[Guess | None]]] = {
    "uniform": _each(uniform),
    "uniform-llm": _each(uniform_llm),
    "first-step": _each(first_step),
    "last-llm-step": _each(last_llm_step),
    "busiest-agent": _each(busiest_agent),
    "step-mode": step_mode,
    "llm-step-mode": llm_step_mode,
    "error-rule": _each(error_rule),
}
"""Every floor by name: cases in, one guess a case; None where the rule does not apply."""


LEARNT = ("step-mode", "llm-step-mode")
"""Floors that learn from the labels of other runs; all others look at one run alone."""


def llm_steps(episode: Episode) -> list[int]:
    """Indices of the steps that a model wrote."""
    return [s.index for s in episode.steps if s.kind == "llm"]


def _at(episode: Episode, index: int) -> Guess:
    return _spread(episode, [index])


def _spread(episode: Episode, indices: Sequence[int]) -> Guess:
    share = 1 / len(indices)
    steps = [0.0] * len(episode.steps)
    agents: dict[str, float] = {}
    for i in indices:
        steps[i] = share
        if (agent := episode.steps[i].agent) is not None:
            agents[agent] = agents.get(agent, 0.0) + share
    return Guess(tuple(steps), agents)


def _modes_of_others(values: Sequence[int | None]) -> list[int | None]:
    """For each entry the most frequent value of all others, the smallest of several."""
    counts = Counter(v for v in values if v is not None)
    ranked = sorted(counts, key=lambda v: (-counts[v], v))
    modes: list[int | None] = []
    for own in values:
        # Without one's own label its value counts one less; only the two leaders can swap then.
        rest = [(counts[v] - (v == own), -v) for v in ranked[:2]]
        best = max(rest, default=(0, 0))
        modes.append(-best[1] if best[0] > 0 else None)
    return modes
