"""What the model itself writes in the place of each source, so that texts stay natural. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Item, Observation
from tracelab.studies.cite.ablations import Ablations
from tracelab.text.segment import segment

REPLACE = "replace"
"""Intervention of replacements of sources."""
VARIANTS = 4
"""Replacements of a source; masks take turns with them."""


def replacements(work: Ablations) -> Flow[list[list[str]]]:
    """Replacements of every source, written from the prompt before it: one list a variant.

    A source that nothing stands before, or that the model cannot replace, leaves the placeholder.
    """
    case, placeholder = work.case, work.options.placeholder
    found = [[placeholder] * work.n for _ in range(VARIANTS)]
    asked: dict[str, list[int]] = {}
    items: dict[str, Item] = {}
    for u in case.units:
        size = u.token_end - u.token_start
        if size == 0 or u.token_start == 0:
            continue
        sampling = replace(work.ctx.sampling, max_tokens=size + 8)
        if sampling.temperature == 0:
            sampling = replace(sampling, temperature=1.0)
        item = Item(
            model=work.ctx.model,
            prefix_ids=case.tokens.prompt_ids[: u.token_start],
            sampling=sampling,
            seed=work.ctx.seed,
            replicates=VARIANTS,
            intervention=REPLACE,
        )
        asked.setdefault(item.key, []).append(u.index)
        items[item.key] = item

    def write(batch: Sequence[Observation]) -> None:
        for o in batch:
            for i in asked[o.key]:
                if o.error is None and (text := _like(o.text, case.units[i].text, work)):
                    found[o.replicate % VARIANTS][i] = text

    yield Ask("replacements", list(items.values()), write)
    return found


def _like(text: str, original: str, work: Ablations) -> str:
    """As many sentences of a text as the one it replaces has."""
    cutter = work.options.segmenter
    wanted = max(1, len(segment(original.strip(), cutter)))
    return "".join(s.text for s in segment(text.strip(), cutter)[:wanted]).strip()
