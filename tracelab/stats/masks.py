"""Which sources to keep: designs of ablations.

A mask is one flag a source, True = kept. A `Design` says how its masks were drawn, because the
interval of an effect is only as good as what is known about the draw. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

Purpose = Literal["design", "held_out", "full", "empty", "leave_one_out", "pair"]

_ENUMERABLE = 16
"""Contexts of at most so many sources have few enough masks to be drawn without replacement."""


@dataclass(frozen=True, slots=True)
class Design:
    """Masks and how they were drawn.

    Attributes:
        name: `bernoulli`, `leave-one-out`, `hierarchical`, ...
        masks: bool [m, n], True = kept.
        purposes: One a mask: `design` rows are random and can be fitted; the others answer a
            question of their own.
        blocks: int [m, n]; the sources of a row that have one number were kept or removed
            together, by one coin. A source alone in its block can be told apart by that row.
        clusters: int [m]; rows of one number share coins and are not independent of each other.
    """

    name: str
    masks: Bools
    purposes: tuple[Purpose, ...]
    blocks: Ints
    clusters: Ints

    @property
    def n(self) -> int:
        """Number of sources."""
        return int(self.masks.shape[1])

    def __len__(self) -> int:
        return len(self.masks)

    def alone(self) -> Bools:
        """Where a source was kept or removed by a coin of its own, bool [m, n]."""
        return np.array([_alone(row) for row in self.blocks], dtype=np.bool_).reshape(
            self.masks.shape
        )

    def select(self, rows: Sequence[int] | Ints | Bools) -> Design:
        """The design of some of its rows."""
        index = np.arange(len(self))[np.asarray(rows)] if len(self) else np.arange(0)
        return Design(
            self.name,
            self.masks[index],
            tuple(self.purposes[i] for i in index),
            self.blocks[index],
            self.clusters[index],
        )

    def of(self, *purposes: Purpose) -> Design:
        """Only the rows of some purposes."""
        return self.select(np.array([p in purposes for p in self.purposes], dtype=np.bool_))


def design(
    name: str,
    masks: NDArray[np.generic],
    purpose: Purpose | Sequence[Purpose] = "design",
    blocks: Ints | None = None,
    clusters: Ints | None = None,
) -> Design:
    """A design from masks; without `blocks` and `clusters`, every coin is independent.

    Args:
        name: What it is called.
        masks: [m, n], anything that is true where a source is kept.
        purpose: One for all rows, or one a row.
        blocks: See `Design`; [m, n], or [n] for all rows.
        clusters: See `Design`.

    Raises:
        ValueError: The shapes do not agree.
    """
    kept = np.asarray(masks, dtype=np.bool_)
    if kept.ndim != 2:
        raise ValueError(f"masks must be [masks, sources], not {kept.ndim}-dimensional")
    m, n = kept.shape
    each: tuple[Purpose, ...] = (purpose,) * m if isinstance(purpose, str) else tuple(purpose)
    own = np.arange(n) if blocks is None else np.asarray(blocks)
    rows = np.arange(m) if clusters is None else np.asarray(clusters)
    if len(each) != m or rows.shape != (m,) or own.shape not in ((n,), (m, n)):
        raise ValueError("purposes, blocks and clusters must be as many as the masks")
    return Design(
        name, kept, each, np.broadcast_to(own, (m, n)).astype(np.int64), rows.astype(np.int64)
    )


def bernoulli(
    n: int, m: int, rng: np.random.Generator, keep: float = 0.5, *, distinct: bool = True
) -> Design:
    """Every source kept with probability `keep`, independently: ContextCite's design.

    Args:
        n: Sources.
        m: Masks.
        rng: The coins.
        keep: Probability of keeping a source; intervals need 0.5.
        distinct: Draw without replacement where repeats are likely (at most 16 sources), so that
            no ablation is paid for twice; asking for 2^n masks or more gives each once.
    """
    if distinct and n <= _ENUMERABLE and keep == 0.5:
        picks = rng.choice(2**n, size=min(m, 2**n), replace=False)
        return design("bernoulli", (picks[:, None] >> np.arange(n)) & 1)
    return design("bernoulli", rng.random((m, n)) < keep)


def anchors(n: int) -> Design:
    """The whole context and none of it: 2 masks."""
    return design("anchors", np.array([[True] * n, [False] * n]), ("full", "empty"))


def leave_one_out(n: int) -> Design:
    """The two anchors, then each source removed on its own: n + 2 masks."""
    both = anchors(n)
    masks = np.concatenate([both.masks, ~np.eye(n, dtype=np.bool_)])
    each: list[Purpose] = ["leave_one_out"] * n
    return design("leave-one-out", masks, (*both.purposes, *each))


def pairs(n: int, members: Sequence[int]) -> Design:
    """Removals of pairs: full, each member removed, each two members removed together.

    With k members, 1 + k + k(k - 1)/2 masks, in the order of `itertools.combinations`. Two sources
    that say the same are missed by the first k and found by the rest.
    """
    k = list(members)
    gone: list[tuple[int, ...]] = [(), *((i,) for i in k), *combinations(k, 2)]
    masks = np.ones((len(gone), n), dtype=np.bool_)
    for row, out in zip(masks, gone, strict=True):
        row[list(out)] = False
    rest: list[Purpose] = ["pair"] * (len(gone) - 1)
    return design("pairs", masks, ("full", *rest))


def blocked(blocks: Ints, m: int, rng: np.random.Generator, name: str = "hierarchical") -> Design:
    """Bernoulli(0.5) masks of whole blocks: documents, paragraphs, or a mixture of levels.

    Args:
        blocks: int [n], the block of each source.
        m: Masks.
        rng: The coins.
        name: Of the design.
    """
    _, inverse = np.unique(blocks, return_inverse=True)
    coins = rng.random((m, int(inverse.max(initial=-1)) + 1)) < 0.5
    return design(name, coins[:, inverse], blocks=blocks)


def held_out(n: int, m: int, rng: np.random.Generator, seen: Design | None = None) -> Design:
    """Fresh Bernoulli(0.5) masks to test a surrogate on, none of them among `seen`.

    A context of few sources may have fewer than m masks left: the result is then shorter.
    """
    known = set() if seen is None else {row.tobytes() for row in seen.masks}
    fresh = bernoulli(n, m + (len(known) if n <= _ENUMERABLE else 0), rng).masks
    keep = [row for row in fresh if row.tobytes() not in known][:m]
    return design("held-out", np.array(keep, dtype=np.bool_).reshape(len(keep), n), "held_out")


def concatenate(designs: Iterable[Design]) -> Design:
    """Several designs of one context as one; clusters of different designs stay apart.

    Raises:
        ValueError: There is none, or they are of different contexts.
    """
    parts = list(designs)
    if not parts or len({d.n for d in parts}) != 1:
        raise ValueError("designs to be joined must be of one context")
    shift, clusters = 0, []
    for d in parts:
        clusters.append(d.clusters + shift)
        shift = int(clusters[-1].max(initial=shift - 1)) + 1
    return Design(
        "+".join(dict.fromkeys(d.name for d in parts)),
        np.concatenate([d.masks for d in parts]),
        tuple(p for d in parts for p in d.purposes),
        np.concatenate([d.blocks for d in parts]),
        np.concatenate(clusters),
    )


def _alone(row: Ints) -> Bools:
    _, inverse, counts = np.unique(row, return_inverse=True, return_counts=True)
    return np.asarray(counts[inverse] == 1)
