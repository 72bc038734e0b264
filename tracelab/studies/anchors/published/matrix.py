"""The sentence-to-sentence matrix as Thought Anchors has it.

Kept so that published figures recompute. I[i, j], j > i, is how much more often something like
chunk j appears when chunk i is kept: positive = i makes j more likely. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tracelab.core.item import Rollout
from tracelab.core.unit import Unit
from tracelab.studies.anchors.grouping import left_unit

Matrix = NDArray[np.float64]
MATCH_THRESHOLD = 0.8
"""Cosine from which a sentence of a rollout counts as chunk j (the published matrices')."""


def importance_matrix(matches: Sequence[ArrayLike]) -> Matrix:
    """The sentence-to-sentence matrix.

    Args:
        matches: For each chunk i, booleans [rollouts started where i is taken out, N].

    Returns:
        Shape [N, N]. I[i, j] for j > i is the share of rollouts from i + 1 that say chunk j minus
        that share from i, in [-1, 1]. Elsewhere 0, and also where either has no rollouts.
    """
    n = len(matches)
    rates = np.full((n, n), np.nan)
    for i, said in enumerate(matches):
        table = np.asarray(said, dtype=np.bool_).reshape(-1, n)
        if len(table):
            rates[i] = table.mean(axis=0)
    out = np.zeros((n, n))
    if n > 1:
        out[:-1] = np.triu(np.nan_to_num(rates[1:] - rates[:-1]), k=1)
    return out


def rollout_matches(units: Sequence[Unit], rollouts: Iterable[Rollout]) -> list[NDArray[np.bool_]]:
    """Tell which sentences tracelab's rollouts say, for `importance_matrix`.

    Rollouts count where they were started, without recycling, as in the original. What a rollout
    repeats of the trace counts as said; the sentence in which it leaves counts for the unit it
    replaces by its similarity, and the rest by its echoes. The original compares that sentence
    with every later chunk as well.

    Args:
        units: The sentences, N of them.
        rollouts: With `similarity` and `echoes` computed at `MATCH_THRESHOLD`; those without
            echoes that leave the trace are left out.

    Returns:
        For each sentence, booleans [rollouts started before it, N].
    """
    n = len(units)
    at: dict[int, list[int]] = {}
    for u in units:
        at.setdefault(u.token_start, []).append(u.index)
    said: list[list[int]] = [[] for _ in range(n)]  # one bit a sentence
    for r in rollouts:
        left = left_unit(r, units)
        if r.echoes is None and left is not None:
            continue
        for i in at.get(r.start_token, ()):
            said[i].append(_said(r, i, n if left is None else left, n))
    return [_unpacked(rows, n) for rows in said]


def _said(rollout: Rollout, start: int, left: int, n: int) -> int:
    similar = rollout.similarity is not None and rollout.similarity >= MATCH_THRESHOLD
    repeated = (1 << left) - (1 << min(start, left))
    later = (rollout.echoes or 0) >> (left + 1) << (left + 1)
    return (repeated | similar << left | later) & ((1 << n) - 1)


def _unpacked(rows: Sequence[int], n: int) -> NDArray[np.bool_]:
    width = (n + 7) // 8
    packed = np.frombuffer(b"".join(r.to_bytes(width, "little") for r in rows), dtype=np.uint8)
    bits = np.unpackbits(packed.reshape(len(rows), width), axis=1, bitorder="little")
    return bits[:, :n].astype(np.bool_)
