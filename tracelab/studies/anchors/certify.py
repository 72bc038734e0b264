"""Certificates: sentences that one scoring pass shows to be unimportant, without a rollout.

Let p_i be the probability that the model, given the trace up to unit i, writes exactly unit i.
Since V_i = p_i V_{i+1} + (1 - p_i) U_i with U_i in [0, 1], |V_{i+1} - V_i| <= 1 - p_i. One pass
over the trace gives all p_i. They are of use far beyond that bound: `resample.tally` and the value
curve weigh everything by them.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracelab.core.finding import Score
from tracelab.core.item import Item, ModelRef, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit

METHOD = "certify"


def exact_under(sampling: Sampling) -> bool:
    """Whether log-probabilities of a plain scoring pass are those that are sampled from."""
    return sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0


def plan(tokens: TokenizedTrace, units: Sequence[Unit], *, model: ModelRef) -> Item:
    """One scoring pass: the tokens of all units, given the prompt."""
    end = units[-1].token_end
    return Item(model=model, prefix_ids=tokens.prompt_ids, target_ids=tokens.response_ids[:end])


def keep_probabilities(
    units: Sequence[Unit], token_logprobs: Sequence[float], offset: int = 0
) -> list[float]:
    """P(the model writes exactly unit i, given what is before it), shape [N].

    Args:
        units: The trace's sentences.
        token_logprobs: Log-probability of each response token from `offset` on, nats; for the
            distribution that rollouts are sampled from.
        offset: Response token of the first of them.
    """
    row = np.asarray(token_logprobs, dtype=np.float64)
    return [
        float(min(1.0, np.exp(row[u.token_start - offset : u.token_end - offset].sum())))
        for u in units
    ]


def scores(
    trace_id: str, units: Sequence[Unit], keep: Sequence[float], level: float
) -> list[Score]:
    """P(written exactly) of each sentence, as scores of metric `keep` (no interval: exact)."""
    return [
        Score(
            trace_id, u.kind, u.index, METHOD, "keep", p, None, None, level, 1, "ok", "scored",
            extra={"bound": round(1 - p, 6)},
        )
        for u, p in zip(units, keep, strict=True)
    ]  # fmt: skip
