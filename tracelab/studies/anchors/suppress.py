"""Attention suppression: what changes when later tokens cannot look at a sentence?

An engine hides sentence i from all later tokens, in every layer and head, and compares the
distribution of each next token with the one of the untouched model, the text held fixed. A
sentence that later text was written from changes what the model expects there (Thought Anchors,
arXiv:2506.19143, section 6). Only the direct look is cut: what sentence i has already put into the
text of sentences in between still reaches the target through them.

Every token is credited to the sentence it stands in, although the model predicts it one position
earlier. The first token after sentence i is predicted at i's own last token, which still sees i:
nothing can change there, so it is left out instead of counted as 0.

Pure. Divergences and log-probabilities are in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Findings, Link, Metric, Score
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import Observation
from tracelab.core.look import Suppressed, suppression_call
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.methods import METHODS

METHOD = "suppress"
LINK_METRIC = "suppression_kl"
CENTRED_METRIC = "suppression_kl_centred"


def links(
    trace_id: str, seen: Suppressed, units: Sequence[Unit], *, level: float = 0.95
) -> list[Link]:
    """Sentence→sentence effects: from the hidden unit to each later one, ordered by the later one.

    Args:
        trace_id: The trace.
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
                found.append(
                    Link.of(
                        trace_id, target.kind, source.index, target.index, METHOD, metric, v,
                        level=level, n=n, failed=seen.error is not None, evidence="scored",
                        extra={"reason": seen.error} if seen.error else {},
                    )
                )  # fmt: skip
    return found


def answer_range(tokens: TokenizedTrace, units: Sequence[Unit]) -> tuple[int, int]:
    """Response tokens after the last unit: what follows the reasoning."""
    return (units[-1].token_end if units else 0), len(tokens.response_ids)


def estimate(
    trace_id: str,
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
        trace_id: The trace.
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
            scores.append(_score(trace_id, seen, u, metric, value, count, level))
    return scores


def _mean(row: NDArray[np.float32], lo: int, hi: int) -> tuple[float, int]:
    """Mean over the defined tokens of `[lo, hi)` and their number; (NaN, 0) when there is none."""
    part = row[lo:hi].astype(np.float64)
    part = part[np.isfinite(part)]
    return (float(part.mean()), len(part)) if len(part) else (float("nan"), 0)


def _score(
    trace_id: str, seen: Suppressed, u: Unit, metric: str, value: float, n: int, level: float
) -> Score:
    extra: dict[str, object] = {}
    if seen.error is not None:
        extra = {"reason": seen.error}
    elif u.token_end == u.token_start:
        extra = {"reason": "the sentence has no token of its own"}
    elif not n:
        extra = {"reason": "no token after it could change"}
    return Score.of(
        trace_id, u.kind, u.index, METHOD, metric, value, level=level, n=n,
        failed=seen.error is not None, evidence="scored", extra=extra,
    )  # fmt: skip


@METHODS.register(METHOD, order=6)
class Suppress(Method):
    """Attention suppression."""

    help = "what changes when later tokens cannot attend to a sentence (looks inside the model)"
    metrics = (
        Metric("answer_kl", "nats a token", "hiding the sentence changes the answer", lo=0),
        Metric("answer_logprob_drop", "nats", "looking at the sentence supported the answer"),
        Metric("later_kl", "nats", "hiding the sentence changes what comes later", lo=0),
        Metric(LINK_METRIC, "nats a token", "hiding the earlier changes the later", lo=0),
        Metric(CENTRED_METRIC, "nats a token", "it matters more to the later than others do"),
    )

    def ask(self, cohort: Cohort) -> Flow[None]:
        """Hide every sentence of every trace, one at a time."""
        yield from together(self._look(case, cohort) for case in cohort.cases)

    def _look(self, case: Reasoning, cohort: Cohort) -> Flow[None]:
        def take(batch: Sequence[Observation]) -> None:
            [o] = batch
            seen, level = Suppressed.of(o), cohort.options.level
            answer = answer_range(case.tokens, case.units)
            case.held[METHOD] = Findings(
                estimate(case.trace_id, seen, case.units, answer, level=level),
                links(case.trace_id, seen, case.units, level=level),
            )

        units = [(u.token_start, u.token_end) for u in case.units]
        call = suppression_call(
            cohort.ctx.model, case.tokens.prompt_ids, case.tokens.response_ids, units
        )
        yield Ask("suppression", [call], take)

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Effects on the answer, on all that comes later, and between sentences."""
        found: Findings = case.held[METHOD]
        return found
