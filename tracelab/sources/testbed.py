"""The bundled testbed as a source: questions for the bundled model, and planted roles.

The questions come without responses: base traces are sampled through the run's own engine, and
the planted role of each generated sentence is then read off its form.
"""

from __future__ import annotations

from typing import cast

from tracelab.core.trace import Role, Trace, Turn
from tracelab.testbed import Problem, problems
from tracelab.text.segment import reasoning_range

NAME = "testbed"


def ask(n: int, *, seed: int, phrasing: int | None = None) -> dict[str, Problem]:
    """Evaluation problems with complete facts and no hint, by id.

    Args:
        n: How many.
        seed: Which.
        phrasing: 0, 1 or 2; None draws them.
    """
    drawn = problems(n, seed=seed, phrasing=phrasing, missing=False, hinted=False)
    return {p.problem_id: p for p in drawn}


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
