"""Links between sentences: does writing sentence i make sentence j more likely?

link(i, j) = P(j, or something similar, is written | i as it is) - P(the same | i replaced), for
j > i: positive when i brings j about (Thought Anchors, arXiv:2506.19143, the sentence-to-sentence
matrix; theirs contrasts boundaries i + 1 and i, whose rollouts largely write i alike).

A rollout that still follows the trace through unit j has written j. One that left earlier has
written something similar where its `echoes` say so; one that left in j itself, where its own
sentence is similar enough, or an echo says so.

Pure; bit matrices, N units by R rollouts, in blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from tracelab.core.finding import Findings, Link, Metric
from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.stats.divergence import fdr_adjust
from tracelab.stats.intervals import difference, two_sample_p
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort, Method
from tracelab.studies.anchors.grouping import INSIDE_TOKEN, MIN_ROLLOUTS, Grouped, group
from tracelab.studies.anchors.methods import METHODS

METHOD = "resample"
METRIC = "link"

SIMILAR = 0.8
"""Cosine from which a rollout's own sentence says what unit j says, as in the paper."""

_BLOCK = 4096  # rollouts whose bits are in memory at once

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def estimate(
    trace_id: str,
    units: Sequence[Unit],
    rollouts: Iterable[Rollout],
    *,
    similarity_name: str,
    threshold: float = SIMILAR,
    level: float = 0.95,
    min_rollouts: int = MIN_ROLLOUTS,
) -> list[Link]:
    """Links of every ordered pair of units of one trace.

    Args:
        trace_id: The trace.
        units: Its sentences, in order; N of them.
        rollouts: Its rollouts with `echoes`, any order. Those that left the trace and were not
            compared with it (`echoes` None) are left out of both groups, and counted.
        similarity_name: What computed the echoes; goes into `extra`.
        threshold: Cosine from which a rollout that left in unit j has written j; the one that
            `echoes` were computed with.
        level: Nominal coverage of the intervals (`difference`: the groups share no rollout).
        min_rollouts: With fewer in either group, `insufficient`.

    Returns:
        N (N - 1) / 2 links, by i, then j. `extra` has `n_kept`, `n_replaced`, the two rates,
        Fisher's exact two-sided `p`, and `p_adjusted` over all measured pairs of the trace
        (Benjamini-Hochberg).
    """
    g = group(units, rollouts)
    size = len(g.units)
    kept, n_kept, left, n_left, lost = _counts(g, threshold)
    lo, hi = difference(left, n_left[:, None], kept, n_kept[:, None], level)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate_kept, rate_left = kept / n_kept[:, None], left / n_left[:, None]
    whole = np.array([g.splittable(i) for i in range(size)], dtype=bool)
    enough = whole & (np.minimum(n_kept, n_left) >= max(min_rollouts, 1))
    p = np.full((size, size), np.nan)
    tested = np.triu(np.ones((size, size), dtype=bool), 1) & enough[:, None]
    i_of, _ = np.nonzero(tested)
    p[tested] = two_sample_p(left[tested], n_left[i_of], kept[tested], n_kept[i_of])
    adjusted = fdr_adjust(p)
    links: list[Link] = []
    for i, u in enumerate(g.units):
        base: dict[str, object] = {
            "n_kept": int(n_kept[i]),
            "n_replaced": int(n_left[i]),
            "n_unknown": int(lost[i]),
            "similarity": similarity_name,
            "threshold": threshold,
        }
        if not whole[i]:
            base["reason"] = INSIDE_TOKEN
        n = int(n_kept[i] + n_left[i])
        if not enough[i]:
            links += [
                Link.of(trace_id, u.kind, i, j, METHOD, METRIC, None, level=level, n=n, extra=base)
                for j in range(i + 1, size)
            ]
            continue
        row = zip(
            range(i + 1, size),
            *(
                m[i, i + 1 :].tolist()
                for m in (rate_kept - rate_left, lo, hi, rate_kept, rate_left, p, adjusted)
            ),
            strict=True,
        )
        links += [
            Link.of(
                trace_id, u.kind, i, j, METHOD, METRIC, gap, level=level, n=n, interval=(low, high),
                extra={**base, "rate_kept": a, "rate_replaced": b, "p": raw, "p_adjusted": adj},
            )
            for j, gap, low, high, a, b, raw, adj in row
        ]  # fmt: skip
    return links


def _counts(g: Grouped, threshold: float) -> tuple[Floats, Ints, Floats, Ints, Ints]:
    """How often each unit is written by the rollouts that kept, and that replaced, each unit.

    Returns:
        Kept [N, N] (row i: rollouts at boundary i + 1; column j: those that wrote unit j), their
        number [N], replaced [N, N], their number [N], and how many were left out [N].
    """
    size = len(g.units)
    known = (g.left < 0) | np.array([r.echoes is not None for r in g.rollouts], dtype=bool)
    lost = np.bincount(g.left[~known & (g.left >= 0)], minlength=size).astype(np.int64)
    kept, left = np.zeros((size, size), np.float32), np.zeros((size, size), np.float32)
    n_kept, n_left = np.zeros(size, np.int64), np.zeros(size, np.int64)
    unit = np.arange(size)
    for block in np.array_split(np.flatnonzero(known), max(1, -(-known.sum() // _BLOCK))):
        wrote = _wrote(g, block, threshold).astype(np.float32)
        first, last, out = g.first[block], g.last[block], g.left[block]
        at = (first[None, :] <= unit[:, None] + 1) & (unit[:, None] + 1 <= last[None, :])
        gone = out[None, :] == unit[:, None]
        kept += at.astype(np.float32) @ wrote
        left += gone.astype(np.float32) @ wrote
        n_kept += at.sum(1)
        n_left += gone.sum(1)
    return kept.astype(np.float64), n_kept, left.astype(np.float64), n_left, lost


def _wrote(g: Grouped, block: Ints, threshold: float) -> NDArray[np.bool_]:
    """Whether each rollout of a block wrote each unit or something similar, [block, N]."""
    size = len(g.units)
    unit = np.arange(size)[None, :]
    width = -(-size // 8)
    mask = (1 << size) - 1
    raw = b"".join(((g.rollouts[k].echoes or 0) & mask).to_bytes(width, "little") for k in block)
    packed = np.frombuffer(raw, dtype=np.uint8).reshape(len(block), width)
    bits = np.unpackbits(packed, axis=1, count=size, bitorder="little").astype(bool)
    left, last = g.left[block], g.last[block]
    alike = np.array(
        [(s is not None and s >= threshold) for s in (g.rollouts[k].similarity for k in block)],
        dtype=bool,
    )
    follows = unit < last[:, None]
    own = unit == left[:, None]
    return np.asarray(
        follows | (own & alike[:, None]) | (bits & (unit >= np.maximum(left, 0)[:, None]))
    )


@METHODS.register("links", order=3)
class Links(Method):
    """Sentence to sentence."""

    help = "which sentences bring about which later ones"
    metrics = (
        Metric(
            METRIC, "probability", "the earlier sentence brings about the later", -1, 1,
            MIN_ROLLOUTS,
        ),
    )  # fmt: skip
    compares = True
    echoes = True

    def estimate(self, case: Reasoning, cohort: Cohort, rng: np.random.Generator) -> Findings:
        """Links of every ordered pair of sentences."""
        found = estimate(
            case.trace_id,
            case.units,
            case.rollouts,
            similarity_name=cohort.similarity,
            level=cohort.options.level,
        )
        return Findings(links=found)
