"""Context pruning: does the model still say the same with only the spans that matter? Pure."""

from __future__ import annotations

from typing import cast

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import TRUNCATED, Item, Observation
from tracelab.stats.held_out import ranking
from tracelab.stats.masks import Purpose, design
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.methods.registry import ALWAYS
from tracelab.studies.cite.rows import PrunedRow

PRUNE = "prune"


def top_spans(work: Ablations, k: int) -> tuple[int, ...]:
    """The k spans to keep: those whose positive weights over all targets sum to most."""
    total = np.zeros(work.n)
    for t in work.case.targets:
        total += np.maximum(np.nan_to_num(work.weights(t.name, ALWAYS)), 0.0)
    return tuple(sorted(int(i) for i in ranking(total)[:k]))


def prune(work: Ablations, k: int) -> Flow[PrunedRow]:
    """Answer again with the k top spans of a context, sampled as the study samples.

    Args:
        work: A context whose targets are explained.
        k: Spans to keep; more than there are keeps all.
    """
    mask = np.zeros((1, work.n), dtype=np.bool_)
    mask[0, list(top_spans(work, k))] = True
    rows = work.add(design(PRUNE, mask, cast(Purpose, PRUNE)))
    yield from work.ask("pruned contexts", rows)
    row = work.rows[rows[0]]
    answers: list[Observation] = []
    item: Item | None = None
    try:
        item = Item(
            model=work.ctx.model,
            prefix_ids=work.prompt(rows[0]),
            sampling=work.ctx.sampling,
            seed=work.ctx.seed,
            intervention=PRUNE,
        )
    except PlanError:  # the row of the mask has the reason
        pass
    else:
        yield Ask("answers from pruned contexts", [item], answers.extend)
    reason = answers[0].error if answers else row.error
    # A response that was cut itself is compared with another that is cut at the same length.
    own = len(work.case.tokens.response_ids)
    if answers and reason is None and answers[0].finish_reason == "length":
        if own < work.ctx.sampling.max_tokens:
            reason = f"{TRUNCATED}: the limit of tokens came before the end of the response"
    text = answers[0].text if answers and reason is None else None
    # Every context begins with the whole of it, so that is not asked again.
    full = next(i for i, r in enumerate(work.rows) if r.kept.all())
    whole, left = (work.response(i) for i in (full, rows[0]))
    change = None if whole is None or left is None else float(left.sum() - whole.sum())
    return PrunedRow(
        work.case.trace_id,
        k,
        [i for i, kept in enumerate(row.kept) if kept],
        work.n,
        len(work.case.tokens.prompt_ids),
        None if item is None else len(item.prefix_ids),
        text,
        None if text is None else text.split() == work.case.trace.response.split(),
        change,
        "failed" if text is None else "ok",
        (reason or "no answer") if text is None else None,
    )
