"""Certificates: sentences that one scoring pass shows to be unimportant, without a rollout.

Let p_i be the probability that the model, given the trace up to unit i, writes exactly unit i.
Since V_i = p_i V_{i+1} + (1 - p_i) U_i with U_i in [0, 1], |V_{i+1} - V_i| <= 1 - p_i. One pass
over the trace gives all p_i. They are of use far beyond that bound: `tally` and the value curve
weigh everything by them.

Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tracelab.core.finding import Metric, Score
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort

METHOD = "certify"
METRICS = (Metric("keep", "probability", lo=0, hi=1),)


def exact_under(sampling: Sampling) -> bool:
    """Whether log-probabilities of a plain scoring pass are those that are sampled from."""
    return sampling.temperature == 1 and sampling.top_p == 1 and sampling.top_k == 0


def plan(tokens: TokenizedTrace, units: Sequence[Unit], *, model: ModelRef) -> Item:
    """One scoring pass: the tokens of all units, given the prompt."""
    end = units[-1].token_end
    return Item(model=model, prefix_ids=tokens.prompt_ids, target_ids=tokens.response_ids[:end])


def keep_probabilities(units: Sequence[Unit], token_logprobs: Sequence[float]) -> list[float]:
    """P(the model writes exactly unit i, given what is before it), shape [N].

    Args:
        units: The trace's sentences.
        token_logprobs: Log-probability of each response token, nats; for the distribution that
            rollouts are sampled from.
    """
    row = np.asarray(token_logprobs, dtype=np.float64)
    return [float(min(1.0, np.exp(row[u.token_start : u.token_end].sum()))) for u in units]


def recorded(case: Reasoning) -> list[float] | None:
    """`keep_probabilities` from the log-probabilities that the response was written with.

    None where there are none, or they are of other tokens than those that are studied.
    """
    turn, own = case.trace.turns[-1], case.tokens.response_ids
    if turn.token_logprobs is None or turn.token_ids is None or turn.token_ids[: len(own)] != own:
        return None
    return keep_probabilities(case.units, turn.token_logprobs)


def score_traces(cohort: Cohort) -> Flow[None]:
    """One scoring pass for each trace whose p_i are not known; one that fails goes on without.

    Only where who answers can score, and rollouts are sampled from the plain distribution; else
    the p_i stay unknown, and the share of rollouts that wrote each sentence stands for them.
    """
    can = "score" in cohort.ctx.capabilities
    if not (cohort.options.certificates and exact_under(cohort.ctx.sampling) and can):
        return
    wanted: dict[str, list[Reasoning]] = {}
    items: list[Item] = []
    for case in cohort.cases:
        if case.keep is None:
            item = plan(case.tokens, case.units, model=cohort.ctx.model)
            wanted.setdefault(item.key, []).append(case)
            items.append(item)

    def take(batch: Sequence[Observation]) -> None:
        for o in batch:
            for case in wanted[o.key]:
                if o.token_logprobs is not None:
                    case.keep = keep_probabilities(case.units, o.token_logprobs)

    yield Ask("scoring traces", items, take, expected=[0] * len(items))


def scores(
    trace_id: str, units: Sequence[Unit], keep: Sequence[float], level: float
) -> list[Score]:
    """P(written exactly) of each sentence, as scores of metric `keep` (no interval: exact)."""
    return [
        Score.of(
            trace_id, u.kind, u.index, METHOD, "keep", p, level=level, n=1, evidence="scored",
            extra={"bound": round(1 - p, 6)},
        )
        for u, p in zip(units, keep, strict=True)
    ]  # fmt: skip
