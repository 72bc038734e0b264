"""Receiver heads: which sentences do later sentences keep attending to?

An engine averages the attention of every head over pairs of sentences. The *vertical score* of
sentence j in one head is the mean of that attention over all sentences well after j; heads whose
vertical scores are concentrated on few sentences (high kurtosis) are *receiver heads*; a
sentence's receiver score is its mean vertical score in those (Thought Anchors, arXiv:2506.19143,
section 5). Attention is a correlate of importance, not an effect: nothing is intervened on.

Pure: knows nothing of engines. Attention lies in [0, 1]. What cannot be seen (a later sentence, a
sentence without a token of its own) is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracelab.core.finding import Link, Score, ScoreStatus
from tracelab.core.unit import Unit

METHOD = "attend"
METRIC = "receiver_attention"
LINK_METRIC = "attention"
ESTIMATOR_VERSION = 1
"""Bumped whenever the same attention would give other numbers."""

MIN_DISTANCE = 4
"""Sentences this close after a sentence say nothing about it (the published choice)."""

RECEIVER_HEADS = 20
"""Heads that count as receivers (the published choice, for models of many hundred heads)."""

Floats = NDArray[np.float64]
Head = tuple[int, int]
"""(layer, head), both from 0."""


def _none() -> Floats:
    return np.empty((0, 0))


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """What an engine saw of one trace's attention. Rows attend, columns are attended to.

    Attributes:
        trace_id: The trace.
        vertical: Vertical score of each unit in each head, [layers, heads, units]; NaN for the
            last units, which have no unit far enough after them.
        mean: Sentence-mean attention averaged over all heads, [units, units]: entry [i, j] is the
            mean, over tokens of i and tokens of j, of the attention that i's pay to j's; NaN for
            j > i and for units without tokens.
        heads: Heads whose own matrices were asked for, in the order of `matrices`.
        matrices: Their sentence-mean attention, float32 [kept heads, units, units].
        min_distance: As used in `vertical`.
        depth_control: As used in `vertical`.
        error: `kind: sentence` when the engine could not do it; the arrays are then empty.
    """

    trace_id: str
    vertical: Floats = field(default_factory=lambda: np.empty((0, 0, 0)))
    mean: Floats = field(default_factory=_none)
    heads: tuple[Head, ...] = ()
    matrices: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32)
    )
    min_distance: int = MIN_DISTANCE
    depth_control: bool = False
    error: str | None = None


def vertical_scores(
    matrix: ArrayLike, *, min_distance: int = MIN_DISTANCE, depth_control: bool = False
) -> Floats:
    """Mean attention that each sentence gets from the sentences well after it.

    score[j] = nan-mean over rows i >= j + min_distance of matrix[i, j].

    Args:
        matrix: Sentence-mean attention, [..., units, units]; entries above the diagonal are
            ignored.
        min_distance: Least distance of a row that counts; at least 1.
        depth_control: First replace each row by its ranks among the sentences it can see (average
            rank for ties), divided by how many those are: later rows share their attention among
            more sentences, which this takes out. Scores are then in (0, 1].

    Returns:
        [..., units]; NaN where no row counts.

    Raises:
        ValueError: `min_distance` is less than 1.
    """
    if min_distance < 1:
        raise ValueError(
            "min_distance is at least 1: a sentence's attention to itself says nothing"
        )
    a = np.array(matrix, dtype=np.float64)
    n = a.shape[-1]
    i, j = np.indices((n, n))
    a[..., j > i] = np.nan
    if depth_control and n:
        from scipy import stats  # seconds to import

        seen = np.isfinite(a)
        # Unseen entries get the highest ranks, so that they move nobody else's.
        ranks = stats.rankdata(np.where(seen, a, np.inf), axis=-1)
        a = np.where(seen, ranks / np.maximum(seen.sum(-1, keepdims=True), 1), np.nan)
    a[..., i < j + min_distance] = np.nan
    counted = np.isfinite(a).sum(-2)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(a, axis=-2) / np.where(counted, counted, np.nan))


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
    maps: AttentionMaps, units: Sequence[Unit], heads: Sequence[Head], *, level: float = 0.95
) -> list[Score]:
    """Receiver score of each sentence: its vertical score, averaged over the receiver heads.

    Args:
        maps: The trace's attention.
        units: The units it was computed for.
        heads: The receiver heads, from `receiver_heads`.
        level: Stored with the scores; they have no interval, because one pass over one trace is
            no sample of anything.

    Returns:
        One score `receiver_attention` a unit, in [0, 1]; n is the number of later units averaged
        over. `insufficient` when there are none, or no receiver head; `failed` when the engine
        could not do it.
    """
    layers, columns = [h[0] for h in heads], [h[1] for h in heads]
    extra = {
        "heads": [list(h) for h in heads],
        "min_distance": maps.min_distance,
        "depth_control": maps.depth_control,
    }
    values, rows = np.full(len(units), np.nan), np.zeros(len(units), dtype=int)
    if maps.error is None:
        own = np.array([u.token_end > u.token_start for u in units], dtype=bool)
        for at in range(len(units)):
            rows[at] = int(own[at + maps.min_distance :].sum()) if own[at] else 0
        if heads:
            values = maps.vertical[layers, columns].mean(0)
    return [
        _score(maps, u, float(v), int(n), level, extra)
        for u, v, n in zip(units, values, rows, strict=True)
    ]


def links(
    maps: AttentionMaps,
    units: Sequence[Unit],
    heads: Sequence[Head] | None = None,
    *,
    level: float = 0.95,
) -> list[Link]:
    """Sentence→sentence attention: from the earlier unit, which is read, to the later, which reads.

    Args:
        maps: The trace's attention.
        units: The units it was computed for.
        heads: Average over these (their matrices must have been kept); None averages over all.
        level: As for `estimate`; there is no interval.

    Returns:
        One link `attention` for each pair of units, earlier to later: the mean attention of the
        later one's tokens to each token of the earlier one, averaged over the heads, in [0, 1]; n
        is the number of heads. `insufficient` where one of the two has no token; `failed` when
        the engine could not do it.

    Raises:
        ValueError: A head's matrix was not kept, or the list of heads is empty.
    """
    matrix, n = np.full((len(units), len(units)), np.nan), 0
    if maps.error is None and heads is None:
        matrix, n = maps.mean, maps.vertical.shape[0] * maps.vertical.shape[1]
    elif maps.error is None and heads is not None:
        at = {head: k for k, head in enumerate(maps.heads)}
        if not heads or (lost := [h for h in heads if h not in at]):
            raise ValueError(f"the engine kept no matrix of {lost[0] if heads else 'no head'}")
        matrix = maps.matrices[[at[h] for h in heads]].astype(np.float64).mean(0)
        n = len(heads)
    missing: ScoreStatus = "insufficient" if maps.error is None else "failed"
    found = []
    for i, target in enumerate(units):
        for source, value in zip(units[:i], matrix[i, :i].tolist(), strict=True):
            ok = bool(np.isfinite(value))
            found.append(
                Link(
                    maps.trace_id, target.kind, source.index, target.index, METHOD, LINK_METRIC,
                    value if ok else None, None, None, level, n if ok else 0,
                    "ok" if ok else missing, "scored", {"reason": maps.error} if maps.error else {},
                )
            )  # fmt: skip
    return found


def _score(
    maps: AttentionMaps, unit: Unit, value: float, n: int, level: float, extra: dict[str, object]
) -> Score:
    extra = dict(extra)
    ok = bool(np.isfinite(value))
    if maps.error is not None:
        extra["reason"] = maps.error
    elif unit.token_end == unit.token_start:
        extra["reason"] = "the sentence has no token of its own"
    elif not n:
        extra["reason"] = "no sentence comes far enough after it"
    elif not ok:
        extra["reason"] = "no head is a receiver: the traces are too short"
    return Score(
        trace_id=maps.trace_id,
        unit_kind=unit.kind,
        unit_index=unit.index,
        method=METHOD,
        metric=METRIC,
        value=value if ok else None,
        lo=None,
        hi=None,
        level=level,
        n=n,
        status="ok" if ok else "failed" if maps.error is not None else "insufficient",
        evidence="scored",
        extra=extra,
    )
