"""From documents to sentences: masks for contexts of many more sources than ablations.

Starts with whole documents; after each round the blocks in which terms of a sparse model are
likely (`tracelab.stats.sparse`) are opened into smaller ones, and the rest stay closed. Every block
keeps a fair coin of its own. Sources whose block was never opened have a weight but no effect of
their own. Pure: a generator that yields masks and is sent outcomes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from tracelab.stats.lasso import Floats, Ints
from tracelab.stats.masks import Bools, Design, blocked
from tracelab.stats.sparse import act

BATCH = 4
_FIRST = 0.3
_ACTS = 0.25
_OPEN = 2.5
_FAN_OUT = 24
_CHAINS = 16
_SWEEPS = 16
_MIN_FIRST = 4


def refine(
    groups: Sequence[Ints],
    budget: int,
    rng: np.random.Generator,
    prior: Floats | None = None,
) -> Generator[Design, Floats, None]:
    """Yield hierarchical masks, round by round.

    Args:
        groups: Group of each source, coarse to fine, each [n]; not empty.
        budget: Masks in all.
        rng: The coins.
        prior: Any number per source that is larger for likelier ones [n].

    Yields:
        A design of some rows. Send the outcomes of these rows, [rows, targets]; a NaN is a mask
        that failed. Blocks are opened for what acts on any target.
    """
    levels = [np.unique(g, return_inverse=True)[1].astype(np.int64) for g in groups]
    documents = _coarsen(levels[0], budget)
    blocks = documents
    masks, outcomes = np.zeros((0, len(documents)), dtype=np.bool_), np.zeros((0, 0))
    while len(masks) < budget:
        size = BATCH if len(masks) else max(_MIN_FIRST, round(_FIRST * budget))
        size = min(size, budget - len(masks))
        rows = blocked(blocks, size, rng)
        y = yield rows
        y = np.asarray(y, dtype=np.float64).reshape(size, -1)
        masks = np.concatenate([masks, rows.masks])
        outcomes = np.concatenate([outcomes, y]) if outcomes.size else y
        if len(masks) < budget:
            acting = _acting(masks, outcomes.T, documents, rng, prior)
            blocks = _open(documents, acting, levels[1:], _OPEN * budget)


def _acting(
    masks: Bools, outcomes: Floats, group: Ints, rng: np.random.Generator, prior: Floats | None
) -> Floats:
    """Expected number of terms each source is in, of the target where it is in most [n]."""
    known = np.isfinite(outcomes)
    told = known.sum(axis=1) >= _MIN_FIRST
    if not told.any():
        return np.zeros(len(group))
    each = max(4, _CHAINS // int(told.sum()))
    y, seen = (np.repeat(a[told], each, axis=0) for a in (np.nan_to_num(outcomes), known))
    count, _ = act(masks, y, group, rng, prior=prior, seen=seen, sweeps=_SWEEPS)
    return np.asarray(count.reshape(-1, each, len(group)).mean(axis=1).max(axis=0))


def _coarsen(documents: Ints, budget: int) -> Ints:
    """Join neighbouring documents until there are no more than masks."""
    order = np.unique(documents, return_index=True)[1].argsort().argsort()  # by first appearance
    count = len(order)
    limit = max(2, budget)
    return (order * min(limit, count) // count)[documents].astype(np.int64)


def _open(documents: Ints, acting: Floats, finer: Sequence[Ints], most: float) -> Ints:
    """Split what acts, most likely blocks first, until so many parts are open."""
    out, opened = documents.copy(), 0
    queue = [np.flatnonzero(documents == d) for d in np.unique(documents)]
    while queue:
        members = queue.pop(int(np.argmax([acting[q].sum() for q in queue])))
        if acting[members].sum() <= _ACTS:
            break
        parts = _parts(members, finer)
        size = int(parts.max()) + 1
        if size > 1 and opened + size <= most:
            opened += size
            out[members] = int(out.max()) + 1 + parts
            queue += [members[parts == p] for p in range(size)]
    return out


def _parts(members: Ints, finer: Sequence[Ints]) -> Ints:
    size = len(members)
    if size <= _FAN_OUT:
        return np.arange(size, dtype=np.int64)
    for level in finer:
        _, parts = np.unique(level[members], return_inverse=True)
        if 1 < int(parts.max()) + 1 <= _FAN_OUT:
            return np.asarray(parts, dtype=np.int64)
    return (np.arange(size) * _FAN_OUT // size).astype(np.int64)
