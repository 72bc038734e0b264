"""Which spans of its context is each statement of a response made of?

    case ─► masks ─► ablated prompts ─► log-probabilities ─► scores ─► tests of the scores

Every context is a flow of its own, a cohort of them goes side by side, and few cohorts at a time,
so that memory is bounded. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, cast

import numpy as np

from tracelab.core.finding import Findings, Metric
from tracelab.core.flow import Flow, together
from tracelab.core.item import TRUNCATED
from tracelab.core.study import STUDIES, StudyContext
from tracelab.core.trace import Trace
from tracelab.stats import masks
from tracelab.studies.cite import held_out
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.alone import alone
from tracelab.studies.cite.answers.work import SampledAblations
from tracelab.studies.cite.asking import in_step
from tracelab.studies.cite.attribution import Attribution
from tracelab.studies.cite.case import ContextCase, case_of, prompted
from tracelab.studies.cite.methods.ablate import ESTIMATOR_VERSION
from tracelab.studies.cite.methods.kinds import Baseline, CohortMethod, MaskMethod, Question
from tracelab.studies.cite.methods.llm_cites import UNUSABLE, LlmCites
from tracelab.studies.cite.methods.registry import ALWAYS, all_metrics, chosen
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.plan import plan
from tracelab.studies.cite.prune import prune
from tracelab.studies.cite.replacing import replacements
from tracelab.studies.cite.rows import PrunedRow, SpanRow

COHORT_TOKENS = 1_000_000
"""Prompt tokens, over all masks, of the contexts of a cohort."""
_COHORTS = 2
"""Cohorts at a time: the next one keeps engines busy while one ends."""


@STUDIES.register("cite", order=2)
class Cite:
    """Context attribution."""

    name: ClassVar[str] = "cite"
    Options: ClassVar[type[CiteOptions]] = CiteOptions
    metrics: ClassVar[tuple[Metric, ...]] = all_metrics()
    estimator_version: ClassVar[str] = str(ESTIMATOR_VERSION)
    testbed: ClassVar[Literal["contexts"]] = "contexts"

    def unfit(self, options: CiteOptions, capabilities: frozenset[str]) -> str | None:
        """Why who answers cannot be asked this; None where it can."""
        if "score" in capabilities or options.outcome == "answer":
            return None
        return (
            'a chat endpoint gives no log-probabilities of a response: cite.outcome = "answer" '
            "(--outcome answer) asks it to answer without parts of the context, and counts what "
            "the answers are"
        )

    def prompted(self, trace: Trace, ctx: StudyContext[CiteOptions]) -> Trace:
        """A trace with its prompt as the options want it; for traces that are to be answered.

        Raises:
            PlanError: The template of the options is none.
        """
        return prompted(trace, ctx)

    def cases(self, trace: Trace, ctx: StudyContext[CiteOptions]) -> Iterable[ContextCase]:
        """The context of a trace with its response, or of one step of an agent's run.

        Raises:
            PlanError: It cannot be studied; one sentence.
        """
        return [case_of(trace, ctx)]

    def run(self, cases: Sequence[ContextCase], ctx: StudyContext[CiteOptions]) -> Flow[Findings]:
        """Explain every target of every case, and test the explanations."""
        found = Findings()
        some = (_cohort(c, ctx) for c in cohorts(cases, ctx.options))
        for part in (yield from together(some, most=_COHORTS)):
            found.add(part)
        return found


def cohorts(cases: Sequence[ContextCase], options: CiteOptions) -> Iterator[list[ContextCase]]:
    """Consecutive cases whose masks fit in memory together."""
    held: list[ContextCase] = []
    tokens = 0
    for case in cases:
        length = len(case.tokens.prompt_ids) + len(case.tokens.response_ids)
        size = (options.ablations + options.held_out) * length
        if held and tokens + size > COHORT_TOKENS:
            yield held
            held, tokens = [], 0
        held.append(case)
        tokens += size
    if held:
        yield held


def _cohort(cases: Sequence[ContextCase], ctx: StudyContext[CiteOptions]) -> Flow[Findings]:
    """Contexts side by side; where a method learns from all of them, they wait for one another."""
    kind = SampledAblations if ctx.options.outcome == "answer" else Ablations
    works: list[Ablations] = [kind(case, ctx) for case in cases]
    learners: list[CohortMethod[Any]] = chosen(ctx.options.methods, CohortMethod)
    found = Findings()
    if not learners:
        for part in (yield from together(whole(w) for w in works)):
            found.add(part)
        return found
    seen = yield from together(_explained(w, learners) for w in works)
    for k, learner in enumerate(learners):
        told = learner.learn(works, [s[k] for s in seen])
        for work, by_target in zip(works, told, strict=True):
            _add(work, learner.name, by_target)
    for part in (yield from together(_tested(w) for w in works)):
        found.add(part)
    return found


def whole(work: Ablations) -> Flow[Findings]:
    """Explain and test one context; its work then holds all that was asked and heard.

    Methods that learn from several contexts have no part in it.
    """
    yield from _explained(work, ())
    return (yield from _tested(work))


def _explained(work: Ablations, learners: Sequence[CohortMethod[Any]]) -> Flow[list[Any]]:
    """Explain the targets; returns what each learner has seen of the context."""
    methods = work.options.methods
    if work.case.mode == "resample":
        work.replacements = yield from replacements(work)
    looks = [learner.look(work) for learner in learners]
    baselines: list[Baseline] = chosen(methods, Baseline)
    every: list[Flow[Any]] = [together(looks), together(b.explain(work) for b in baselines)]
    parts: list[Any] = yield from together([*every, _ablated(work)])
    seen, told = parts[:2]
    for b, by_target in zip(baselines, told, strict=True):
        _add(work, b.name, by_target)
    asked: list[tuple[str, str, Flow[Attribution]]] = []
    for q in cast(list[Question], chosen(methods, Question)):
        for position, (t, row) in enumerate(zip(work.case.targets, work.targets, strict=True)):
            known = np.isfinite(work.weights(t.name, ALWAYS)).any()
            if row.label in ("grounded", "diffuse") and known:
                asked.append((t.name, q.name, q.answer(work, t, position)))
    answers = yield from in_step([flow for _, _, flow in asked])
    for (target, method, _), answer in zip(asked, answers, strict=True):
        work.found[target][method] = answer
    return list(seen)


def _add(work: Ablations, method: str, found: dict[str, Attribution]) -> None:
    for target, said in found.items():
        work.found[target][method] = said


def _ablated(work: Ablations) -> Flow[None]:
    """Ask the masks of the design, and those that are held out; then read them."""
    o, case = work.options, work.case
    readers: list[MaskMethod] = chosen(o.methods, MaskMethod)
    rng = np.random.default_rng(work.seed)
    work.add(masks.anchors(work.n))
    for reader in readers:
        if (own := reader.masks(work.n)) is not None:
            work.add(own)
    knowledge = work.knowledge(" ".join(t.text for t in case.targets))
    drawing = plan(work.n, o.ablations, rng=rng, knowledge=knowledge, width=o.width, level=o.level)
    drawn: masks.Design | None = next(drawing)
    first, round_ = 0, 1
    while drawn is not None:
        rows = work.add(drawn)
        stage = "ablations" if round_ == 1 else f"ablations, round {round_}"
        yield from work.ask(stage, range(first, rows.stop))
        first, round_ = rows.stop, round_ + 1
        outcomes = np.stack([work.outcome(t, rows) for t in case.targets], axis=1)
        try:
            drawn = drawing.send(outcomes)
        except StopIteration:
            drawn = None
    seen = work.design_of(work.rows_for("design"))
    fresh = masks.held_out(work.n, o.held_out, rng, seen)
    yield from work.ask("held-out ablations", work.add(fresh))
    by_itself = yield from alone(work, work.undecided())
    for position, t in enumerate(case.targets):
        work.found[t.name] = {r.name: r.attribute(work, t, position) for r in readers}
        work.targets.append(work.label(t, by_itself.get(t.name)))


def _tested(work: Ablations) -> Flow[Findings]:
    """Test the scores, prune where that is asked, and conclude; the work is then done with."""
    o = work.options
    kinds: tuple[type[Any], ...] = (Baseline, CohortMethod)
    baselines = [m.name for kind in kinds for m in chosen(o.methods, kind)]
    yield from work.ask("top spans", work.add(held_out.masks_of(work, baselines)))
    tests = held_out.tests_of(work, baselines)
    pruned: list[PrunedRow] = []
    if o.prune:
        pruned.append((yield from prune(work, o.prune)))
    said = [a for by_method in work.found.values() for a in by_method.values()]
    attempted, failed = work.counts()
    replies = [by[LlmCites.name] for by in work.found.values() if LlmCites.name in by]
    attempted += len(pruned) + len(replies)
    lost = [p.reason or "" for p in pruned if p.status == "failed"]
    lost += [str(a.scores[0].extra["reason"]) for a in replies if a.failed]
    truncated = sum(why.startswith(TRUNCATED) for why in lost)
    unusable = sum(why.startswith(UNUSABLE) for why in lost)
    failed += len(lost) - truncated - unusable
    ungraded, cut, without = work.losses()
    trace = work.case.trace_id
    spans = [
        SpanRow(trace, i, s.message, s.start, s.end, s.document, s.paragraph, s.whole)
        for i, s in enumerate(work.case.context.sources)
    ]
    return Findings(
        scores=[s for a in said for s in a.scores],
        rows=[*spans, *work.targets, *tests, *(r for a in said for r in a.tests), *pruned],
        attempted=attempted,
        failed=failed,
        ungraded=ungraded,
        truncated=truncated + cut,
        unanswered=unusable + without,
    )
