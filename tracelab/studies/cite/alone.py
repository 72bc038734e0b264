"""What statements are worth without the rest of their response: memory told from what follows.

A statement that needs no context may be the model's own, or follow from what the response says
before it. So it is scored once more, after a prompt without sources and with nothing before it.
Its first token says that something is said here, which depends on the place; the tokens after it
say what, and only they are counted. Of a contrast both texts stand in one place, and all of their
tokens count. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracelab.core.flow import Flow
from tracelab.core.item import Item
from tracelab.stats.lasso import Floats
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.targets import Target
from tracelab.text.segment import reasoning_range

PURPOSE = "alone"
"""Of the probes, in `probes.intervention`."""


def alone(work: Ablations, targets: Sequence[Target]) -> Flow[dict[str, float | None]]:
    """Score targets given neither a source nor what the response says before them.

    Args:
        work: A context whose empty mask was asked.
        targets: Those that are not known to need the context.

    Returns:
        By target: log-probability of its tokens after the first (of a contrast: the difference of
        both texts, all tokens), nats; None where it failed, or the template refuses the prompt.
    """
    empty = np.zeros(work.n, dtype=np.bool_)
    row = work.row_of(empty)
    if work.rows[row].error is not None:
        return dict.fromkeys((t.name for t in targets), None)
    prompt, response = work.prompt(row), work.case.tokens.response_ids
    opening = work.case.tokens.token_at(reasoning_range(work.case.trace.response)[0])
    keys: dict[str, list[str]] = {}
    items: dict[str, tuple[Item, str]] = {}
    for t in targets:
        ranges = [(t.continuation, t.start, t.end)]
        if t.rather_than is not None:
            ranges.append((t.rather_than, 0, len(work.case.continuations[t.rather_than].ids)))
        for c, start, end in ranges:
            text = work.case.continuations[c]
            before = (*response[: text.after], *text.ids[:start])
            item = Item(
                model=work.ctx.model,
                prefix_ids=prompt + before[: min(opening, len(before))],
                target_ids=text.ids[start:end],
            )
            keys.setdefault(t.name, []).append(item.key)
            items.setdefault(item.key, (item, t.name))
    values = yield from work.score("statements alone", PURPOSE, row, items)
    return {t.name: _total(t, [values[k] for k in keys[t.name]]) for t in targets}


def _total(target: Target, rows: Sequence[Floats | None]) -> float | None:
    known = [r for r in rows if r is not None]
    if len(known) < len(rows):
        return None
    if target.rather_than is not None:
        return float(known[0].sum() - known[1].sum())
    return float(known[0][1:].sum() if len(known[0]) > 1 else known[0].sum())
