"""From a source to studies: read it, sample what has no response yet, cut and check every trace.

Shared by the recipes. Whatever cannot be studied becomes a reject with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracelab.core.errors import ImportFormatError, PlanError
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.engines.base import Tokenizer
from tracelab.grading.grader import Grader
from tracelab.run.config import RunConfig
from tracelab.run.session import Run
from tracelab.sources import read
from tracelab.sources.jsonl import read_questions
from tracelab.studies.anchors import certify
from tracelab.studies.anchors.subject import Study, begin
from tracelab.testbed import Problem

BASE = "base"
"""Intervention of base traces: a boundary must never count the trace it belongs to as a sample."""


@dataclass(slots=True)
class Inputs:
    """What the source gave: traces to study, questions to answer first, refusals."""

    traces: list[Trace] = field(default_factory=list)
    questions: dict[str, Trace] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)
    """Testbed only: the problem behind each question, which knows every sentence's role."""
    rejects: list[Reject] = field(default_factory=list)
    logprobs: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """By trace: log-probability of each response token under the run's own sampling, nats."""


def sampling_of(config: RunConfig) -> Sampling:
    """Rollouts are sampled exactly as base traces are."""
    s = config.sampling
    return Sampling(s.temperature, s.top_p, s.top_k, s.max_tokens)


def gather(config: RunConfig) -> Inputs:
    """Read the source.

    Raises:
        ImportFormatError: Nothing can be read from it.
    """
    options = config.source_options
    if config.source == "testbed":
        from tracelab.sources.testbed import ask, question

        drawn = ask(options.problems, seed=config.seed, phrasing=options.phrasing)
        return Inputs(questions={k: question(p) for k, p in drawn.items()}, problems=drawn)
    if options.format == "questions":
        return _questions(config)
    inputs = Inputs()
    for found in read(config.source, options.format):
        if isinstance(found, Reject):
            inputs.rejects.append(found)
        elif options.limit is None or len(inputs.traces) < options.limit:
            if options.rendering != "auto":
                found = replace(found, rendering=options.rendering)
            inputs.traces.append(found)
    if not inputs.traces and inputs.rejects:
        first = inputs.rejects[0]
        raise ImportFormatError(
            f"{config.source}: none of its {len(inputs.rejects)} records can be used; the first: "
            f"{first}"
        )
    return inputs


def _questions(config: RunConfig) -> Inputs:
    inputs = Inputs()
    path = Path(config.source)
    if not path.is_file():
        raise ImportFormatError(f"{path}: no such file; questions are one JSONL file.")
    for found in read_questions(path):
        if isinstance(found, Reject):
            inputs.rejects.append(found)
        elif len(inputs.questions) < (config.source_options.limit or len(inputs.questions) + 1):
            inputs.questions[found.name] = found
    if not inputs.questions:
        first = f"; the first: {inputs.rejects[0]}" if inputs.rejects else ""
        raise ImportFormatError(f"{path} holds no question that can be asked{first}")
    return inputs


def base_items(
    config: RunConfig, inputs: Inputs, model: ModelRef, tokenizer: Tokenizer
) -> dict[str, Item]:
    """Generations for each question that has no response yet, by the question's name."""
    return {
        name: Item(
            model=model,
            prefix_ids=tokenizer.render(q.turns, q.rendering),
            sampling=replace(sampling_of(config), logprobs=True),
            seed=config.seed,
            replicates=config.source_options.attempts,
            intervention=BASE,
        )
        for name, q in inputs.questions.items()
    }


def answer_questions(
    config: RunConfig, run: Run, inputs: Inputs, tokenizer: Tokenizer, grader: Grader
) -> None:
    """Sample base traces for every question; failures become rejects."""
    items = base_items(config, inputs, run.spec.model, tokenizer)
    seen: dict[str, dict[int, Observation]] = {}

    def take(batch: list[Observation]) -> None:
        for o in batch:
            seen.setdefault(o.key, {})[o.replicate] = o

    run.observe("base traces", list(items.values()), take)
    adopt_answers(config, run.spec.model, items, seen, inputs, grader)


def adopt_answers(
    config: RunConfig,
    model: ModelRef,
    items: dict[str, Item],
    seen: dict[str, dict[int, Observation]],
    inputs: Inputs,
    grader: Grader,
) -> None:
    """Turn the answers to questions that have been seen into traces of `inputs`.

    With `source_options.keep = "both"` a question gives its first right and its first wrong answer.
    """
    both = config.source_options.keep == "both"
    for name, item in items.items():
        q, kept = inputs.questions[name], set[bool | None]()
        answers = sorted(seen.get(item.key, {}).items())
        for replicate, o in answers:
            if o.error is not None:
                reason = f"{name}: no base trace: {o.error}"
                inputs.rejects.append(Reject(q.source, 0, reason, ""))
                continue
            named = q if replicate == 0 else replace(q, name=f"{name}#{replicate}")
            trace = _graded(named, inputs.problems.get(name), o, model, grader)
            if trace.success in kept or (kept and not both):
                continue
            kept.add(trace.success)
            inputs.traces.append(trace)
            if o.token_logprobs is not None:
                inputs.logprobs[trace.trace_id] = o.token_logprobs


def _graded(
    q: Trace, problem: Problem | None, o: Observation, model: ModelRef, grader: Grader
) -> Trace:
    """A question and its answer as a trace; the testbed's with the roles of its sentences."""
    trace = q.respond(o.text, model=model.name, token_ids=o.token_ids)
    outcome = grader.grade(
        o.text,
        reference=q.reference,
        own_answer=None,
        finish_reason=o.finish_reason,
        trace=trace,
    )
    extra = dict(trace.extra)
    if problem is not None:
        from tracelab.sources.testbed import roles

        extra["roles"] = [list(r) for r in roles(problem, o.text)]
    return replace(
        trace,
        answer=outcome.answer if outcome.status == "graded" else None,
        success=None if outcome.reward is None or q.reference is None else outcome.reward == 1,
        extra=extra,
    )


def prepare(
    config: RunConfig,
    inputs: Inputs,
    tokenizer: Tokenizer,
    grader: Grader,
    context_length: int,
) -> list[Study]:
    """Tokenise and cut every trace; what cannot be studied becomes a reject.

    Raises:
        ImportFormatError: The source has traces, and none of them can be studied.
    """
    studies = []
    for trace in inputs.traces:
        try:
            study = begin(
                tokenizer.tokenize(gradable(trace, grader)),
                config.resample.segmenter,
                max_units=config.resample.max_units,
                context_length=context_length,
            )
            if (row := inputs.logprobs.get(trace.trace_id)) is not None:
                study.keep = certify.keep_probabilities(study.units, row)
            studies.append(study)
        except PlanError as e:
            inputs.rejects.append(Reject(trace.source, trace.line, f"{trace.name}: {e}", ""))
    if not studies and not inputs.questions:
        raise ImportFormatError(
            f"{config.source}: no trace of it can be studied ({len(inputs.rejects)} rejected); "
            f"the first: {inputs.rejects[0]}"
        )
    return studies


def gradable(trace: Trace, grader: Grader) -> Trace:
    """Complete a trace with its own answer and with what its rollouts are rewarded for.

    Raises:
        PlanError: No rollout of it could ever be graded.
    """
    answer = grader.own_answer(trace)
    kind = grader.reward_kind(trace.reference, answer)
    if kind is None:
        raise PlanError(
            "has no reference, and no final answer that grading can find, so no rollout of it "
            "could be graded"
        )
    return replace(trace, answer=answer, extra={**trace.extra, "reward_kind": kind})


def certificates(
    config: RunConfig, studies: Sequence[Study], model: ModelRef
) -> dict[str, tuple[Item, list[Study]]]:
    """The scoring passes that are still needed, by item key, and the studies they serve.

    Traces that the run itself sampled have their log-probabilities. For others a scoring pass gives
    them, if rollouts are sampled from the plain distribution; otherwise they stay unknown, and
    the share of rollouts that wrote each sentence stands for them.
    """
    if not (config.resample.certificates and certify.exact_under(sampling_of(config))):
        return {}
    found: dict[str, tuple[Item, list[Study]]] = {}
    for s in studies:
        if s.keep is None:
            item = certify.plan(s.tokens, s.units, model=model)
            found.setdefault(item.key, (item, []))[1].append(s)
    return found


def score_traces(config: RunConfig, run: Run, studies: Sequence[Study]) -> None:
    """Run the scoring passes; a trace whose pass failed goes on without."""
    wanted = certificates(config, studies, run.spec.model)

    def take(batch: list[Observation]) -> None:
        for o in batch:
            for s in wanted[o.key][1]:
                if o.token_logprobs is not None:
                    s.keep = certify.keep_probabilities(s.units, o.token_logprobs)

    if wanted:
        run.observe("scoring traces", [item for item, _ in wanted.values()], take)
