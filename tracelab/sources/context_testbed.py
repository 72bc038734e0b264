"""Contexts of the bundled testbed, with the planted role of every fact.

The market's notes are the context and its question is the query; the model's own response is
sampled first. What a fact does was planted: `needed`, one of two `redundant` ones, a `distractor`,
or the clerk's `misleading` hint.
"""

from __future__ import annotations

from tracelab.core.trace import Trace, Turn
from tracelab.testbed import Problem, problems
from tracelab.testbed.market import OPENING, QUESTIONS

NAME = "testbed"


def contexts(
    n: int, *, seed: int, phrasing: int | None = None, hinted: bool = False
) -> list[Trace]:
    """`n` evaluation problems with complete facts, as prompts whose notes are the context."""
    return [
        context(p) for p in problems(n, seed=seed, phrasing=phrasing, missing=False, hinted=hinted)
    ]


def context(problem: Problem) -> Trace:
    """A problem as a context: every fact is a source, with its role."""
    a, b = problem.goods
    query = QUESTIONS[problem.phrasing].format(a=a, b=b, shop=problem.shop)
    # Each fact carries the space before it, so that a deleted one leaves the prompt as if it had
    # never been there.
    start, end = len(OPENING), len(problem.prompt) - len(query) - 1
    return Trace(
        turns=(Turn("user", problem.prompt),),
        name=problem.problem_id,
        reference=problem.reference,
        source=NAME,
        extra={
            "phrasing": problem.phrasing,
            "documents": [[0, start, end, None]],
            "roles": [[0, f.start, f.end, f.role] for f in problem.facts],
        },
    )
