"""Contexts of the bundled testbed, with the planted role of every fact.

The market's notes are the context and its question is the query; the model's own response is
sampled first. What a fact does was planted: `needed`, one of two `redundant` ones, a `distractor`,
or the clerk's `misleading` hint.
"""

from __future__ import annotations

from tracelab.sources.context import ContextRecord
from tracelab.studies.cite.parts import Cut, Document, from_documents
from tracelab.studies.cite.targets import Spec
from tracelab.testbed import Problem, problems
from tracelab.testbed.market import OPENING, QUESTIONS

NAME = "testbed"
TARGETS = (Spec("sentence"),)


def contexts(
    n: int, cut: Cut, *, seed: int, phrasing: int | None = None, hinted: bool = False
) -> list[ContextRecord]:
    """`n` evaluation problems with complete facts, as contexts."""
    drawn = problems(n, seed=seed, phrasing=phrasing, missing=False, hinted=hinted)
    return [record(p, cut) for p in drawn]


def record(problem: Problem, cut: Cut) -> ContextRecord:
    """A problem as a context: every fact is a source, with its role."""
    a, b = problem.goods
    query = QUESTIONS[problem.phrasing].format(a=a, b=b, shop=problem.shop)
    # Each fact carries the space before it, so that a deleted one leaves the prompt as if it had
    # never been there.
    text = problem.prompt[len(OPENING) : len(problem.prompt) - len(query) - 1]
    shift = len(OPENING)
    return ContextRecord(
        context=from_documents(
            [Document(text)],
            query,
            cut,
            template=OPENING + "{context} {query}",
            roles=[(f.start - shift, f.end - shift, f.role) for f in problem.facts],
        ),
        targets=TARGETS,
        name=problem.problem_id,
        source=NAME,
        reference=problem.reference,
        extra={"phrasing": problem.phrasing},
    )
