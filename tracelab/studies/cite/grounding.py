"""Is a statement grounded in its context, or the model's own? Labels from measured numbers. Pure.

The measurements are the statement's log-probability with the whole context and with none of its
sources; `gain` is their difference, in nats. Where that is small, and the model makes the statement
without the context, a third tells why: the same with nothing of the response before it, either.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from scipy.special import stdtr

from tracelab.core.finding import Score
from tracelab.studies.cite.attribution import Attribution

Grounding = Literal[
    "grounded", "diffuse", "memory", "derived", "parametric", "ungrounded", "insufficient"
]

MEANING: Mapping[str, str] = {
    "grounded": "the context makes it likelier, and some span is shown to",
    "diffuse": "the context makes it likelier; no single span is shown to",
    "memory": "from memory: likely with neither the context nor the rest of the response",
    "derived": "follows from the response itself: needs no context, but what stands before it",
    "parametric": "needs no context: from memory or from the rest of the response, not measured "
    "which",
    "ungrounded": "no likelier with the context, and unlikely without it",
    "insufficient": "not measured",
}
"""What each label says, in words for a reader."""

GAIN = 1.0
"""Nats by which the context must raise a statement: 2.7 times as likely with it as without. The
same for the response before it."""
ALPHA = 0.04
"""Share of statements on which no span acts that may pass for resting on some (one-sided test)."""
LIKELY = -1.0
"""Mean log-probability of a token, nats, from which on a statement counts as one that the model
makes by itself; a contrast is by itself on the side of A when log p(A) - log p(B) is above 0."""


def label(
    full: float | None,
    empty: float | None,
    tokens: int,
    scores: Sequence[Score],
    *,
    acts: bool,
    alone: float | None = None,
    contrast: bool = False,
) -> Grounding:
    """Say what a statement rests on.

    Args:
        full: Log-probability given the whole context, nats; None when not measured.
        empty: The same with every source ablated.
        tokens: The statement's tokens.
        scores: Its scores, one a source.
        acts: Whether some source acts at all, by one test over all of them (`some_act`): of many
            intervals some lie above 0 by chance.
        alone: Log-probability of its tokens after the first, with every source ablated and nothing
            of the response before it; of a contrast, of all tokens. None when not measured.
        contrast: Whether they are differences log p(A) - log p(B).

    Returns:
        `grounded`: the context raises it by at least `GAIN`, some source acts, and the interval of
        one lies above 0. `diffuse`: the context does, no single source is shown to. `memory`: the
        context does not, and the model makes the statement with neither the context nor the rest
        of the response. `derived`: it does so only after what the response says before it.
        `parametric`: one of these two, which was not measured. `ungrounded`: neither the context
        nor the model supports it. `insufficient`: it could not be measured.
    """
    if full is None or empty is None:
        return "insufficient"
    if full - empty >= GAIN:
        # Exact effects need no test.
        shown = any(s.lo is not None and s.lo > 0 and (acts or s.lo == s.hi) for s in scores)
        return "grounded" if shown else "diffuse"
    if not _own(empty, tokens, contrast):
        return "ungrounded"
    if alone is None:
        return "parametric"
    counted = tokens if contrast or tokens == 1 else tokens - 1
    return "memory" if _own(alone, counted, contrast) or empty - alone < GAIN else "derived"


def some_act(found: Attribution) -> bool:
    """Whether masks that a surrogate has not seen are predicted better than by chance.

    One test over all sources, however many: the rank correlation of outcomes with predictions out
    of fold, against none. Where nothing acts it is 0 or below, since a fold's own mean is left
    out of what predicts it. True where nothing was fitted: effects are then exact.
    """
    if found.surrogate is None:
        return True
    r, n = found.surrogate.oof_lds, found.n
    if r is None or n < 4:
        return False
    ratio = r * math.sqrt((n - 2) / max(1 - r * r, 1e-12))
    return bool(stdtr(n - 2, -ratio) <= ALPHA)


def undecided(full: float | None, empty: float | None, tokens: int, *, contrast: bool) -> bool:
    """Whether `alone` may be needed for the label; yes where the others are unknown."""
    if full is None or empty is None:
        return True
    return full - empty < GAIN and _own(empty, tokens, contrast)


def _own(logprob: float, tokens: int, contrast: bool) -> bool:
    return logprob > 0 if contrast else logprob >= LIKELY * tokens


def parametric_share(full: float | None, empty: float | None) -> float | None:
    """Probability of a statement without the context over that with it, at most 1.

    Args:
        full: Log-probability given the whole context, nats.
        empty: The same with every source ablated.
    """
    if full is None or empty is None:
        return None
    return math.exp(min(0.0, empty - full))
