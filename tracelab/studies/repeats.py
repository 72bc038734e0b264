"""Whether who answers repeats itself for a seed, measured before anything rests on it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tracelab.core.flow import Ask, Flow
from tracelab.core.item import REPEATED, Item, Observation
from tracelab.core.study import StudyContext
from tracelab.core.trace import Turn

_ASKED = "Invent ten words that nobody has ever used, and write them in one line."
_MOST_TOKENS = 64


def repeats(ctx: StudyContext[Any]) -> Flow[bool | None]:
    """Ask one thing twice with a seed, and once with another.

    Returns:
        Whether the first two replies are the same text and the third is another one; None where all
        are the same, or one could not be had.
    """
    prefix = ctx.tokenizer.render([Turn("user", _ASKED)], "chat")
    sampling = replace(ctx.sampling, temperature=1.0, top_p=1.0, top_k=0, max_tokens=_MOST_TOKENS)
    twice = Item(ctx.model, prefix, sampling, seed=ctx.seed, replicates=2, intervention=REPEATED)
    other = Item(ctx.model, prefix, sampling, seed=ctx.seed + 1, intervention=REPEATED)
    heard: dict[tuple[str, int], Observation] = {}

    def take(batch: Sequence[Observation]) -> None:
        heard.update(((o.key, o.replicate), o) for o in batch)

    yield Ask("does a seed repeat itself", [twice, other], take)
    first, again = (heard[twice.key, r] for r in range(2))
    third = heard[other.key, 0]
    if any(o.error is not None for o in (first, again, third)):
        return None
    if first.text != again.text:
        return False
    return True if third.text != first.text else None
