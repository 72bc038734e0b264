"""Is a statement grounded in its context, or the model's own? Labels from measured numbers. Pure.

The two measurements are the statement's log-probability with the whole context and with none of
its sources; `gain` is their difference, in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from tracelab.core.finding import Score

Grounding = Literal["grounded", "diffuse", "parametric", "ungrounded", "insufficient"]

GAIN = 1.0
"""Nats by which the context must raise a statement: 2.7 times as likely with it as without."""
LIKELY = -1.0
"""Mean log-probability of a token, nats, from which on a statement counts as one that the model
makes by itself; a contrast is by itself on the side of A when log p(A) - log p(B) is above 0."""


def label(
    full: float | None,
    empty: float | None,
    tokens: int,
    scores: Sequence[Score],
    *,
    contrast: bool = False,
) -> Grounding:
    """Say what a statement rests on.

    Args:
        full: Log-probability given the whole context, nats; None when not measured.
        empty: The same with every source ablated.
        tokens: The statement's tokens.
        scores: Its scores, one a source.
        contrast: Whether both are differences log p(A) - log p(B).

    Returns:
        `grounded`: the context raises it by at least `GAIN`, and the interval of some source lies
        above 0. `diffuse`: the context does, no single source is shown to. `parametric`: the
        context does not, and the model makes the statement without it. `ungrounded`: neither the
        context nor the model supports it. `insufficient`: it could not be measured.
    """
    if full is None or empty is None:
        return "insufficient"
    if full - empty >= GAIN:
        shown = any(s.lo is not None and s.lo > 0 for s in scores)
        return "grounded" if shown else "diffuse"
    own = empty > 0 if contrast else empty >= LIKELY * tokens
    return "parametric" if own else "ungrounded"


def parametric_share(full: float | None, empty: float | None) -> float | None:
    """Probability of a statement without the context over that with it, at most 1.

    Args:
        full: Log-probability given the whole context, nats.
        empty: The same with every source ablated.
    """
    if full is None or empty is None:
        return None
    return math.exp(min(0.0, empty - full))
