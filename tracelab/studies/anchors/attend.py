"""Receiver heads: which sentences do later sentences keep attending to?

An engine averages the attention of every head over pairs of sentences. The *vertical score* of
sentence j in one head is the mean of that attention over all sentences well after j; heads whose
vertical scores are concentrated on few sentences (high kurtosis) are *receiver heads*; a
sentence's receiver score is its mean vertical score in those (Thought Anchors, arXiv:2506.19143,
section 5). Attention is a correlate of importance, not an effect: nothing is intervened on.

Pure. Attention lies in [0, 1]. What cannot be seen (a later sentence, a sentence without a token of
its own) is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Findings, Link, Metric, Score
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import Observation
from tracelab.core.look import AttentionMaps, attention_call
from tracelab.core.unit import Unit
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.methods import METHODS

METHOD = "attend"
METRIC = "receiver_attention"
LINK_METRIC = "attention"

MIN_DISTANCE = 4
"""Sentences this close after a sentence say nothing about it (the published choice)."""

RECEIVER_HEADS = 20
"""Heads that count as receivers (the published choice, for models of many hundred heads)."""

RECEIVER_SHARE = 0.25
"""Share of the heads that count as receivers in a smaller model."""

Floats = NDArray[np.float64]
Head = tuple[int, int]
"""(layer, head), both from 0."""


def head_kurtosis(traces: Iterable[AttentionMaps]) -> Floats:
    """How concentrated each head's vertical scores are, averaged over traces.

    Fisher's excess kurtosis (0 for a normal distribution), biased, over the units of a trace that
    have a score; then the mean over traces that define it.

    Returns:
        [layers, heads]; NaN for a head that no trace defines it for (fewer than two units with a
        score, or all scores equal).

    Raises:
        ValueError: No trace has attention, or they come from models of different shapes.
    """
    from scipy import stats

    found = []
    for maps in traces:
        if maps.error is not None:
            continue
        v = maps.vertical[..., np.isfinite(maps.vertical).all((0, 1))]
        spread = np.ptp(v, axis=-1) > 0 if v.shape[-1] > 1 else np.zeros(v.shape[:2], bool)
        k = np.full(v.shape[:2], np.nan)
        if spread.any():
            k[spread] = stats.kurtosis(v[spread], axis=-1, fisher=True, bias=True)
        found.append(k)
    if not found:
        raise ValueError("no trace has attention")
    if len({k.shape for k in found}) > 1:
        raise ValueError("the traces come from models with different numbers of heads")
    stacked = np.stack(found)
    n = np.isfinite(stacked).sum(0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(stacked, axis=0) / np.where(n, n, np.nan))


def receiver_heads(
    traces: Iterable[AttentionMaps], top: int | float = RECEIVER_HEADS
) -> tuple[Head, ...]:
    """The heads with the highest mean kurtosis, best first.

    Args:
        traces: Attention of several traces of one model; failed ones are skipped.
        top: How many, or (below 1) which share of all heads, rounded up.

    Returns:
        At most `top` heads; heads without a kurtosis are never among them, ties go to the earlier
        layer and head. Empty when no head has one (all traces are too short).
    """
    kurtosis = head_kurtosis(traces)
    order = np.argsort(-kurtosis, axis=None, kind="stable")  # NaN sorts last
    count = int(np.ceil(top * kurtosis.size)) if top < 1 else int(top)
    picked = [divmod(int(k), kurtosis.shape[1]) for k in order[: max(count, 1)]]
    return tuple((layer, head) for layer, head in picked if np.isfinite(kurtosis[layer, head]))


def estimate(
    trace_id: str,
    maps: AttentionMaps,
    units: Sequence[Unit],
    heads: Sequence[Head],
    *,
    level: float = 0.95,
) -> list[Score]:
    """Receiver score of each sentence: its vertical score, averaged over the receiver heads.

    Args:
        trace_id: The trace.
        maps: Its attention.
        units: The units it was computed for.
        heads: The receiver heads, from `receiver_heads`.
        level: Stored with the scores; they have no interval, because one pass over one trace is
            no sample of anything.

    Returns:
        One score `receiver_attention` a unit, in [0, 1]; n is the number of later units averaged
        over. `insufficient` when there are none, or no receiver head; `failed` when the engine
        could not do it.
    """
    values, rows = np.full(len(units), np.nan), np.zeros(len(units), dtype=int)
    if maps.error is None:
        own = np.array([u.token_end > u.token_start for u in units], dtype=bool)
        for at in range(len(units)):
            rows[at] = int(own[at + MIN_DISTANCE :].sum()) if own[at] else 0
        if heads:
            values = maps.vertical[[h[0] for h in heads], [h[1] for h in heads]].mean(0)
    scores = []
    for u, value, n in zip(units, values, rows, strict=True):
        extra: dict[str, object] = {
            "heads": [list(h) for h in heads],
            "min_distance": MIN_DISTANCE,
        }
        if maps.error is not None:
            extra["reason"] = maps.error
        elif u.token_end == u.token_start:
            extra["reason"] = "the sentence has no token of its own"
        elif not n:
            extra["reason"] = "no sentence comes far enough after it"
        elif not np.isfinite(value):
            extra["reason"] = "no head is a receiver: the traces are too short"
        scores.append(
            Score.of(
                trace_id, u.kind, u.index, METHOD, METRIC, float(value), level=level, n=int(n),
                failed=maps.error is not None, evidence="scored", extra=extra,
            )
        )  # fmt: skip
    return scores


def links(
    trace_id: str, maps: AttentionMaps, units: Sequence[Unit], *, level: float = 0.95
) -> list[Link]:
    """Sentence→sentence attention: from the earlier unit, which is read, to the later, which reads.

    Args:
        trace_id: The trace.
        maps: Its attention.
        units: The units it was computed for.
        level: As for `estimate`; there is no interval.

    Returns:
        One link `attention` for each pair of units, earlier to later: the mean attention of the
        later one's tokens to each token of the earlier one, averaged over all heads, in [0, 1]; n
        is the number of heads. `insufficient` where one of the two has no token; `failed` when
        the engine could not do it.
    """
    failed = maps.error is not None
    matrix = np.full((len(units), len(units)), np.nan) if failed else maps.mean
    heads = 0 if failed else maps.vertical.shape[0] * maps.vertical.shape[1]
    return [
        Link.of(
            trace_id, target.kind, source.index, target.index, METHOD, LINK_METRIC, value,
            level=level, n=heads if np.isfinite(value) else 0, failed=failed, evidence="scored",
            extra={"reason": maps.error} if failed else {},
        )
        for i, target in enumerate(units)
        for source, value in zip(units[:i], matrix[i, :i].tolist(), strict=True)
    ]  # fmt: skip


@dataclass(slots=True)
class _Seen:
    """What is kept of one trace until the receiver heads of all are known."""

    maps: AttentionMaps
    links: list[Link]


@METHODS.register(METHOD, order=5)
class Attend(Method):
    """Receiver heads."""

    help = "which sentences later ones attend to (looks inside the model)"
    metrics = (
        Metric(METRIC, "attention", "later sentences attend to it", 0, 1),
        Metric(LINK_METRIC, "attention", "the later sentence attends to the earlier", 0, 1),
    )

    def ask(self, cohort: Cohort) -> Flow[None]:
        """Look at every trace; receiver heads are those that behave so over all of them."""
        yield from together(self._look(case, cohort) for case in cohort.cases)
        seen: list[_Seen] = [case.held[METHOD] for case in cohort.cases]
        heads: Sequence[Head] = ()
        shape = next((s.maps.vertical.shape for s in seen if s.maps.error is None), None)
        if shape is not None:
            few = shape[0] * shape[1] * RECEIVER_SHARE < RECEIVER_HEADS
            heads = receiver_heads(
                [s.maps for s in seen], top=RECEIVER_SHARE if few else RECEIVER_HEADS
            )
        level = cohort.options.level
        for case, s in zip(cohort.cases, seen, strict=True):
            scores = estimate(case.trace_id, s.maps, case.units, heads, level=level)
            case.held[METHOD] = Findings(scores, s.links)

    def _look(self, case: Reasoning, cohort: Cohort) -> Flow[None]:
        def take(batch: Sequence[Observation]) -> None:
            [o] = batch
            maps = AttentionMaps.of(o)
            found = links(case.trace_id, maps, case.units, level=cohort.options.level)
            case.held[METHOD] = _Seen(replace(maps, mean=np.empty((0, 0))), found)

        units = [(u.token_start, u.token_end) for u in case.units]
        call = attention_call(
            cohort.ctx.model,
            case.tokens.prompt_ids,
            case.tokens.response_ids,
            units,
            min_distance=MIN_DISTANCE,
        )
        yield Ask("attention", [call], take)

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Receiver scores, and attention between sentences."""
        found: Findings = case.held[METHOD]
        return found
