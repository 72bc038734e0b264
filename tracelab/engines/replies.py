"""What an engine, a judge or an environment answers, held to what was asked.

One place, before the journal: whoever answers may be somebody else's server, or broken. An answer
that cannot be one becomes a failed observation with a reason (`reply: sentence`), never a row; one
that nobody asked for is dropped, for there is nothing to put it under.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any

from tracelab.core.errors import one_line
from tracelab.core.item import AnyItem, Item, Observation
from tracelab.core.outside import decode

KIND = "reply"
"""What the errors of answers that cannot be answers start with."""

MOST_INT32 = 2**31
"""What a count or a token id in the journal is below."""

_ROUNDING = 1e-3
"""How far above 0 rounding may lift a log-probability, nats; half precision is coarse."""


def checked(
    batch: Sequence[Observation],
    items: Mapping[str, AnyItem],
    asked: Mapping[str, Set[int]],
    vocabulary: int | None,
) -> list[Observation]:
    """Those of a batch that were asked, each once; what cannot be an answer as a failure.

    Args:
        batch: What came.
        items: What was asked of whoever answers, by key.
        asked: Replicates that are still open, by key.
        vocabulary: Token ids are below it; None where nobody knows.
    """
    kept: dict[tuple[str, int], Observation] = {}
    for o in batch:
        key, replicate = getattr(o, "key", None), getattr(o, "replicate", None)
        if not isinstance(key, str) or not isinstance(replicate, int):
            continue
        if key not in items or replicate not in asked.get(key, ()) or (key, replicate) in kept:
            continue
        try:
            why = _fault(o, items[key], vocabulary)
        except Exception as e:  # whatever it is made of
            why = f"{type(e).__name__}: {one_line(e, 200)}"
        kept[key, replicate] = o if why is None else refused(items[key], replicate, why)
    return list(kept.values())


def refused(item: AnyItem, replicate: int, why: str) -> Observation:
    """The failure that stands for an answer that is none."""
    return Observation(
        key=item.key,
        replicate=replicate,
        finish_reason="error",
        prefix_tokens=len(item.prefix_ids) if isinstance(item, Item) else 0,
        error=f"{KIND}: {why}",
    )


def _fault(o: Observation, item: AnyItem, vocabulary: int | None) -> str | None:
    """Why an observation cannot be the answer to an item; None where it can."""
    if not isinstance(o.text, str) or not isinstance(o.endpoint, str):
        return "its text is no text"
    if o.error is not None:
        wrong = not isinstance(o.error, str) or o.finish_reason != "error"
        return "it is neither an answer nor a failure" if wrong else _counts(o)
    if o.finish_reason not in ("stop", "length"):
        return f"its finish reason is {str(o.finish_reason)[:40]!r}"
    if (why := _counts(o) or _tokens(o.token_ids, vocabulary)) is not None:
        return why
    if not isinstance(item, Item):
        decode(o.text)
        return None
    if item.sampling is not None:
        most, n = item.sampling.max_tokens, len(o.token_ids)
        if n > most and not o.endpoint:  # an endpoint's own tokens are not known
            return f"{n:,} tokens, but {most:,} were the most that was asked"
        return _logprobs(o.token_logprobs, n)
    if o.token_logprobs is None:
        return "no log-probabilities"
    return _logprobs(o.token_logprobs, len(item.target_ids or ()))


def _counts(o: Observation) -> str | None:
    for name in ("prefix_tokens", "cached_tokens"):
        n = getattr(o, name)
        if not (_whole(n) and n < MOST_INT32) and not (n is None and name == "cached_tokens"):
            return f"its {name} is {n!r}"
    return None


def _tokens(ids: Sequence[Any], vocabulary: int | None) -> str | None:
    bound = MOST_INT32 if vocabulary is None else vocabulary
    if not ids or ({*map(type, ids)} == {int} and min(ids) >= 0 and max(ids) < bound):
        return None
    token = next((t for t in ids if not (_whole(t) and t < bound)), ids[0])
    known = "" if vocabulary is None else f" of {vocabulary:,} tokens"
    return f"token id {str(token)[:40]} is not in the model's vocabulary{known}"


def _logprobs(found: Sequence[Any] | None, n: int) -> str | None:
    if found is None:
        return None
    if len(found) != n:
        return f"{len(found):,} log-probabilities for {n:,} tokens"
    for p in found:
        if not (isinstance(p, float) and math.isfinite(p)):
            return f"a log-probability is {str(p)[:40]}"
        if p > _ROUNDING:
            return f"a log-probability is {p:.4g}, more than 0"
    return None


def _whole(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and n >= 0
