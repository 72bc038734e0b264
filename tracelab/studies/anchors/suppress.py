"""Attention suppression: what changes when later tokens cannot look at a sentence?

An engine hides sentence i from all later tokens, in every layer and head, and compares the
distribution of each next token with the one of the untouched model, the text held fixed. A
sentence that later text was written from changes what the model expects there (Thought Anchors,
arXiv:2506.19143, section 6). Only the direct look is cut: what sentence i has already put into the
text of sentences in between still reaches the target through them.

Every token is credited to the sentence it stands in, although the model predicts it one position
earlier. The first token after sentence i is predicted at i's own last token, which still sees i:
nothing can change there, so it is left out instead of counted as 0.

Pure: knows nothing of engines. Divergences and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Link, Score, ScoreStatus
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit

METHOD = "suppress"
LINK_METRIC = "suppression_kl"
CENTRED_METRIC = "suppression_kl_centred"
ESTIMATOR_VERSION = 1
"""Bumped whenever the same passes would give other numbers."""

Floats = NDArray[np.float64]


def _none() -> NDArray[np.float32]:
    return np.empty((0, 0), dtype=np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Suppressed:
    """What an engine saw: one row for each hidden unit, one column for each response token.

    Attributes:
        trace_id: The trace.
        sources: Index of the hidden unit of each row; units without tokens have no row.
        kl: KL(base ‖ suppressed) of the distribution of response token r given all before it,
            float32 [sources, response tokens], nats; NaN where hiding the unit cannot matter (up
            to and including the first token after it).
        drop: log p(token r | base) − log p(token r | suppressed), same shape, nats; NaN alike.
        error: `kind: sentence` when the engine could not do it; the arrays are then empty.
    """

    trace_id: str
    sources: tuple[int, ...] = ()
    kl: NDArray[np.float32] = field(default_factory=_none)
    drop: NDArray[np.float32] = field(default_factory=_none)
    error: str | None = None


def links(seen: Suppressed, units: Sequence[Unit], *, level: float = 0.95) -> list[Link]:
    """Sentence→sentence effects: from the hidden unit to each later one, ordered by the later one.

    Args:
        seen: What the engine saw.
        units: The units it was asked about.
        level: Stored with the links; they have no interval, because the passes are exact.

    Returns:
        Two links for each pair of units, earlier to later, n the number of tokens averaged:

        - `suppression_kl`: mean KL(base ‖ suppressed) over the later unit's tokens, nats a token,
          0 or more. `insufficient` where the earlier one was not hidden or no token of the later
          one could change; `failed` when the engine could not do it.
        - `suppression_kl_centred`: that minus its mean over all hidden units before this later
          one; positive = this one matters more to it than the others do. `insufficient` also
          where there is only one.
    """
    at = {source: row for row, source in enumerate(seen.sources)}
    found = []
    for k, target in enumerate(units):
        means = [
            _mean(seen.kl[at[u.index]], target.token_start, target.token_end)
            if u.index in at
            else (float("nan"), 0)
            for u in units[:k]
        ]
        measured = [v for v, n in means if n]
        centre = float(np.mean(measured)) if len(measured) > 1 else float("nan")
        for source, (value, n) in zip(units[:k], means, strict=True):
            for metric, v in ((LINK_METRIC, value), (CENTRED_METRIC, value - centre)):
                ok = bool(np.isfinite(v))
                found.append(
                    Link(
                        seen.trace_id, target.kind, source.index, target.index, METHOD, metric,
                        v if ok else None, None, None, level, n, _status(seen, ok), "scored",
                        {"reason": seen.error} if seen.error else {},
                    )
                )  # fmt: skip
    return found


def answer_range(tokens: TokenizedTrace, units: Sequence[Unit]) -> tuple[int, int]:
    """Response tokens after the last unit: what follows the reasoning."""
    return (units[-1].token_end if units else 0), len(tokens.response_ids)


def estimate(
    seen: Suppressed,
    units: Sequence[Unit],
    answer: tuple[int, int],
    *,
    level: float = 0.95,
) -> list[Score]:
    """Scores of each sentence.

    - `answer_kl`: mean KL(base ‖ suppressed) over the answer's tokens, nats a token, 0 or more.
    - `answer_logprob_drop`: log p(answer | base) − log p(answer | suppressed), summed over the
      answer's tokens, nats; positive = looking at the sentence supported the answer.
    - `later_kl`: KL summed over all response tokens after the sentence, nats, 0 or more: how much
      of anything later was read off it. Early sentences have more tokens after them.

    Args:
        seen: What the engine saw.
        units: The units it was asked about.
        answer: Token range of the answer, from `answer_range` or narrower.
        level: Stored with the scores; they have no interval, because the passes are exact.

    Returns:
        Three scores a unit; n is the number of tokens behind it. `insufficient` where there is no
        token that could change; `failed` when the engine could not do it.
    """
    at = {source: row for row, source in enumerate(seen.sources)}
    lo, hi = answer
    scores = []
    for u in units:
        mean = total = later = float("nan")
        n = n_later = 0
        if u.index in at:
            kl, drop = seen.kl[at[u.index]], seen.drop[at[u.index]]
            mean, n = _mean(kl, lo, hi)
            # A sum over a part of the answer would not be the answer's log-probability; but the
            # first token after the last sentence cannot change, so it adds exactly nothing.
            total = float(np.nansum(drop[lo:hi].astype(np.float64))) if n else float("nan")
            value, n_later = _mean(kl, 0, len(kl))
            later = value * n_later
        for metric, value, count in (
            ("answer_kl", mean, n),
            ("answer_logprob_drop", total, n),
            ("later_kl", later, n_later),
        ):
            scores.append(_score(seen, u, metric, value, count, level))
    return scores


def _mean(row: NDArray[np.float32], lo: int, hi: int) -> tuple[float, int]:
    """Mean over the defined tokens of `[lo, hi)` and their number; (NaN, 0) when there is none."""
    part = row[lo:hi].astype(np.float64)
    part = part[np.isfinite(part)]
    return (float(part.mean()), len(part)) if len(part) else (float("nan"), 0)


def _status(seen: Suppressed, ok: bool) -> ScoreStatus:
    return "failed" if seen.error is not None else "ok" if ok else "insufficient"


def _score(seen: Suppressed, u: Unit, metric: str, value: float, n: int, level: float) -> Score:
    extra: dict[str, object] = {}
    if seen.error is not None:
        extra = {"reason": seen.error}
    elif u.token_end == u.token_start:
        extra = {"reason": "the sentence has no token of its own"}
    elif not n:
        extra = {"reason": "no token after it could change"}
    return Score(
        trace_id=seen.trace_id,
        unit_kind=u.kind,
        unit_index=u.index,
        method=METHOD,
        metric=metric,
        value=value if n else None,
        lo=None,
        hi=None,
        level=level,
        n=n,
        status=_status(seen, n > 0),
        evidence="scored",
        extra=extra,
    )
