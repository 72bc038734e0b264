"""Shapley values of sources by sampling, with standard errors.

φ_j = the mean gain from adding source j to what stands before it in a random order. The values of
all sources sum to v(whole context) - v(empty context) (efficiency). Positive: the source makes
the target likelier; unit of v, nats. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from tracelab.core.finding import Score
from tracelab.core.flow import Flow
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.methods.ablate import EFFECT
from tracelab.studies.cite.methods.kinds import FAILED_MASK, Question, Values
from tracelab.studies.cite.methods.registry import METHODS
from tracelab.studies.cite.targets import Target

_FLAT = 1e-9  # nats: an effect that is smaller is none
MIN_DRAWS = 3
"""Fewest independent draws from which a standard error is taken."""
SMALL = 10
"""Up to so many sources orders are drawn; beyond that complementary masks, cheaper a draw."""
_STREAM = 0
"""What sets the draws of this method apart from others of the same context."""


@METHODS.register("shapley", order=40)
class ShapleyValues(Question):
    """Shapley values of the sources."""

    name = "shapley"
    help = "Shapley values with intervals over draws; they sum to what the context does"
    metrics = (EFFECT,)

    def answer(self, work: Ablations, target: Target, position: int) -> Flow[Attribution]:
        """Values from about as many masks as the study's ablations."""
        n, budget = work.n, work.options.ablations
        rng = np.random.default_rng([*work.seed, _STREAM, position])

        def values(masks: Bools) -> Flow[Floats]:
            return work.values(target, masks)

        if n <= SMALL:
            orders = max(MIN_DRAWS, budget // max(1, 2 * (n - 1)))
            found = yield from permutations(n, orders, rng, values)
        else:
            found = yield from kernel(n, max(MIN_DRAWS, budget // 2), rng, values)
        scores = _scores(work.scores(self.name, target.name), found)
        return Attribution(scores, None, None, found.masks, found.failed)


def _scores(make: SpanScores, found: Shapley) -> list[Score]:
    lo, hi = found.interval(make.level)
    out = []
    for i, v in enumerate(found.value):
        known = bool(np.isfinite(found.stderr[i]))
        more = {"stderr": float(found.stderr[i]) if known else None, "failed": found.failed}
        why = more if np.isfinite(v) else {**more, **FAILED_MASK}
        # A source that did nothing in every draw says nothing of what it might do in another.
        flat = known and max(abs(float(v)), float(found.stderr[i])) <= _FLAT
        ends = None if flat else (float(lo[i]), float(hi[i]))
        out.append(make.one(i, EFFECT.name, float(v), found.masks - found.failed, why, ends))
    return out


@dataclass(frozen=True, slots=True)
class Shapley:
    """Estimated Shapley values.

    Attributes:
        value: φ [n]; NaN with too few draws.
        stderr: Standard errors [n].
        draws: Independent draws behind each [n]: pairs of orders, or pairs of masks.
        masks: Masks that were asked.
        failed: Of these, how many failed.
    """

    value: Floats
    stderr: Floats
    draws: Floats
    masks: int
    failed: int

    def interval(self, level: float = 0.95) -> tuple[Floats, Floats]:
        """Lower and upper ends [n], Student's t over draws; NaN where there are too few."""
        half = stdtrit(np.maximum(self.draws - 1, 1), 0.5 + level / 2) * self.stderr
        return self.value - half, self.value + half


def permutations(n: int, orders: int, rng: np.random.Generator, values: Values) -> Flow[Shapley]:
    """Orders of the sources and their reverses (antithetic; Castro et al. 2009, Mitchell 2022).

    Args:
        n: Sources, at least 1.
        orders: Pairs of orders; each costs 2(n - 1) masks, and two more serve all.
        rng: Draws the orders.
        values: Asks for v: of both ends, then of one pair of orders at a time.
    """
    ends = yield from values(np.array([[False] * n, [True] * n]))
    asked, failed = 2, int(np.isnan(ends).sum())
    gains: list[Floats] = []
    for _ in range(orders):
        order = rng.permutation(n)
        both = [order, order[::-1]]
        inner = np.concatenate([_chain(o) for o in both])
        heard = (yield from values(inner)) if len(inner) else np.empty(0)
        asked, failed = asked + len(inner), failed + int(np.isnan(heard).sum())
        pair = np.empty((2, n))
        for row, o, part in zip(pair, both, np.split(heard, 2), strict=True):
            row[o] = np.diff(np.concatenate([ends[:1], part, ends[1:]]))
        gains.append(pair.mean(axis=0))
    return _summary(np.array(gains).reshape(-1, n), asked, failed, exact=n == 1)


def kernel(
    n: int, pairs: int, rng: np.random.Generator, values: Values, batch: int = 32
) -> Flow[Shapley]:
    """Unbiased KernelSHAP with complementary masks (Covert & Lee, arXiv:2012.01536, eq. 12).

    Cheaper a draw than orders; the efficiency constraint holds exactly.

    Args:
        n: Sources, at least 1.
        pairs: Masks drawn by the Shapley kernel, each with its complement.
        rng: Draws them.
        values: Asks for v.
        batch: Pairs asked at a time.
    """
    ends = yield from values(np.array([[False] * n, [True] * n]))
    asked, failed = 2, int(np.isnan(ends).sum())
    if n == 1:
        return _summary((ends[1:] - ends[:1]).reshape(1, 1), asked, failed, exact=True)
    sizes = np.arange(1, n)
    chance = 1 / (sizes * (n - sizes))
    chance = chance / chance.sum()
    together = float((chance * sizes * (sizes - 1)).sum() / (n * (n - 1)))
    inverse = np.linalg.inv(np.full((n, n), together) + (0.5 - together) * np.eye(n))
    draws: list[Floats] = []
    for first in range(0, pairs, batch):
        size = rng.choice(sizes, p=chance, size=min(batch, pairs - first))
        kept = np.argsort(rng.random((len(size), n)), axis=1).argsort(axis=1) < size[:, None]
        heard = yield from values(np.concatenate([kept, ~kept]))
        asked, failed = asked + len(heard), failed + int(np.isnan(heard).sum())
        v, w = np.split(heard - ends[0], 2)
        b = (kept * v[:, None] + ~kept * w[:, None]) / 2
        free = b @ inverse
        gap = free.sum(axis=1) - (ends[1] - ends[0])
        draws.append(free - gap[:, None] * inverse.sum(axis=1) / inverse.sum())
    return _summary(np.concatenate(draws) if draws else np.empty((0, n)), asked, failed)


def _chain(order: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Bools:
    """Masks after 1, 2, ..., n - 1 sources of an order have been added."""
    place = np.argsort(order)
    return np.asarray(place[None, :] < np.arange(1, len(order))[:, None])


def _summary(draws: Floats, asked: int, failed: int, *, exact: bool = False) -> Shapley:
    known = np.isfinite(draws)
    count = known.sum(axis=0).astype(np.float64)
    total = np.where(known, draws, 0.0).sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = total / count
        variance = np.where(known, (draws - mean) ** 2, 0.0).sum(axis=0) / (count - 1)
        stderr = np.sqrt(variance / count)
    if exact:  # one source has one order: nothing was sampled
        return Shapley(mean, np.where(count > 0, 0.0, np.nan), count, asked, failed)
    few = count < MIN_DRAWS
    return Shapley(np.where(few, np.nan, mean), np.where(few, np.nan, stderr), count, asked, failed)
