"""The bundled testbed as a source: questions for the bundled model, and planted roles.

The questions come without responses: base traces are sampled through the run's own engine, and
the planted role of each generated sentence is then read off its form.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

from tracelab.core.trace import Role, Trace, Turn
from tracelab.testbed import Problem, problems
from tracelab.text.segment import reasoning_range

NAME = "testbed"


class Questions:
    """Evaluation problems with complete facts and no hint, as prompts without responses."""

    def __init__(self, n: int, *, seed: int, phrasing: int | None = None) -> None:
        """Draw them.

        Args:
            n: How many.
            seed: Which.
            phrasing: 0, 1 or 2; None draws them.
        """
        drawn = problems(n, seed=seed, phrasing=phrasing, missing=False, hinted=False)
        self._problems = {p.problem_id: p for p in drawn}

    def __iter__(self) -> Iterator[Trace]:
        return (question(p) for p in self._problems.values())

    def labelled(self, trace: Trace) -> Trace:
        """An answered question with the planted role of each sentence of its response."""
        problem = self._problems[trace.name.partition("#")[0]]
        found = [list(r) for r in roles(problem, trace.response)]
        return replace(trace, extra={**trace.extra, "roles": found})


def question(problem: Problem) -> Trace:
    """The problem as a prompt without a response."""
    return Trace(
        turns=tuple(Turn(cast(Role, m["role"]), m["content"]) for m in problem.messages),
        name=problem.problem_id,
        reference=problem.reference,
        source=NAME,
        extra={"phrasing": problem.phrasing},
    )


def roles(problem: Problem, response: str) -> list[tuple[int, int, str]]:
    """Planted role of each sentence of a response: `(start, end, role)`, characters."""
    from tracelab.testbed.world import label

    start, end = reasoning_range(response)
    return [(start + s.start, start + s.end, s.role) for s in label(problem, response[start:end])]
