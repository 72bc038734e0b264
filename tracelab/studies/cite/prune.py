"""Context pruning: does the model still say the same with only the spans that matter?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import Item, Observation
from tracelab.stats.held_out import ranking
from tracelab.stats.masks import Purpose, design
from tracelab.store.cite_rows import PrunedRow
from tracelab.studies.cite.attribution import Attribution, sampling_of
from tracelab.studies.cite.explain import Explained

PRUNE = "prune"


def top_spans(found: Explained, k: int) -> tuple[int, ...]:
    """The k spans to keep: those whose positive weights over all targets sum to most."""
    total = np.zeros(found.study.n)
    for t in found.study.targets:
        total += np.maximum(np.nan_to_num(found.weights(t.name)), 0.0)
    return tuple(sorted(int(i) for i in ranking(total)[:k]))


def prune(work: Attribution, explained: Sequence[Explained], k: int) -> list[PrunedRow]:
    """Answer again with the k top spans of each context, sampled as the run samples.

    Args:
        work: What asked the engine before.
        explained: The explained contexts.
        k: Spans to keep; more than there are keeps all.
    """
    score: list[Item] = []
    answers: list[Item | None] = []
    first = [len(e.study.rows) for e in explained]
    for e, row in zip(explained, first, strict=True):
        s = e.study
        mask = np.zeros((1, s.n), dtype=np.bool_)
        mask[0, list(top_spans(e, k))] = True
        score += s.ask(design(PRUNE, mask, cast(Purpose, PRUNE)), work.tokenizer, work.model)
        try:
            prompt = s.prompt(s.rows[row].kept, row, work.tokenizer)
        except PlanError:  # the row of the mask has the reason
            answers.append(None)
            continue
        answers.append(
            Item(
                model=work.model, prefix_ids=prompt, sampling=sampling_of(work.config),
                seed=work.config.seed, intervention=PRUNE,
            )
        )  # fmt: skip
    work.sink.expect([e.study for e in explained])
    work.observe("pruned contexts", score, work.sink)
    written: dict[str, Observation] = {}
    work.observe(
        "answers from pruned contexts",
        [a for a in answers if a is not None],
        lambda batch: written.update({o.key: o for o in batch}),
    )
    return [
        _row(work, e, k, row, answer, written)
        for e, row, answer in zip(explained, first, answers, strict=True)
    ]


def _row(
    work: Attribution, found: Explained, k: int, row: int, answer: Item | None,
    written: dict[str, Observation],
) -> PrunedRow:  # fmt: skip
    study = found.study
    o = None if answer is None else written[answer.key]
    reason = study.rows[row].error if o is None else o.error
    text = None if o is None or reason is not None else o.text
    # Every study begins with the whole context, so that is not asked again.
    full = next(i for i, r in enumerate(study.rows) if all(r.kept))
    whole, left = (work.sink.response(study, i) for i in (full, row))
    change = None if whole is None or left is None else float(left.sum() - whole.sum())
    return PrunedRow(
        study.trace.trace_id,
        k,
        [i for i, kept in enumerate(study.rows[row].kept) if kept],
        study.n,
        len(study.tokens.prompt_ids),
        None if answer is None else len(answer.prefix_ids),
        text,
        None if text is None else text.split() == study.trace.response.split(),
        change,
        "failed" if text is None else "ok",
        (reason or "no answer") if text is None else None,
    )
