"""Which few sources act: a sparse Bayesian model of masks and outcomes, sampled.

y = intercept + a few terms + noise. A term is one source, two that must both be kept, or two of
which one is enough (texts that need or repeat each other): as a sum of single effects, such a pair
leaves noise of its own size. Terms flock to documents that hold other terms (a Pólya urn), and to
sources with a large prior number as far as terms do so anyway; that share, the share of positive
terms and all variances are sampled with the rest. A Gibbs sampler over spike and slab (George &
McCulloch 1993), the slab integrated out; partners of single terms are drawn from a pseudo-prior
(Carlin & Chib 1995). Many short chains advance together, each with outcomes and rows of its own.
Pure; the unit of y.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from tracelab.stats.lasso import Candidate, Floats, Ints

SPARSE = "sparse"
TERMS = 8
"""Most terms of a model."""

_CHAINS, _MOST_KINDS = 6, 256
_STEPS = np.array([0.0, 0.5, 1.0, 1.5])  # log odds of acting per standard deviation of the prior
_PAIRS = 0.15  # share of terms that are two sources together, and of those that are one of two
_SLAB = 0.5  # variance of a term, in variances of y, before it is learnt


def act(
    x: NDArray[np.generic],
    y: Floats,
    group: Ints,
    rng: np.random.Generator,
    *,
    prior: Floats | None = None,
    seen: NDArray[np.bool_] | None = None,
    sweeps: int = 40,
) -> tuple[Floats, Floats]:
    """How many terms each source is in, and its average effect, as each chain expects them.

    Args:
        x: Masks [m, n].
        y: Outcomes of each chain, [chains, m], finite.
        group: Document of each source, [n].
        rng: The sampler's.
        prior: Any number per source that is larger for likelier ones [n].
        seen: Rows that a chain may use, [chains, m]; default all.
        sweeps: Rounds of sampling, of which the first quarter is left out.

    Returns:
        Expected count and average effect, each [chains, n]; sources that no mask tells apart share
        as the prior says.
    """
    size, m = y.shape
    use = np.ones((size, m)) if seen is None else np.asarray(seen, dtype=np.float64)
    rows, y = use.sum(axis=1), np.where(use > 0, y, 0.0)
    y = use * (y - (y.sum(axis=1) / rows)[:, None])
    spread = np.sqrt((y**2).sum(axis=1) / rows) + 1e-12
    first, code = _columns(x, group)
    chain, home, k = np.arange(size), group[first], len(first)
    feature = np.asarray(x, dtype=np.float64).T[first]  # [k, m]
    share, mass, document = _prior(prior, code, group, k)
    kept = use @ feature.T  # [chains, k]

    residual = y / spread[:, None]
    sigma, slab, positive = np.full(size, 0.5), np.full(size, _SLAB), np.full(size, 0.85)
    step, filled = chain % len(mass), np.full(size, 0.5)
    here, partner = np.zeros((2, size, TERMS), dtype=np.int64)
    kind, weight = np.full((size, TERMS), -1), np.zeros((size, TERMS))
    place, urn = np.zeros((size, k)), np.zeros((size, document.shape[1]))
    count, effect = np.zeros((2, len(mass), size, k))
    score, n = np.zeros((2, size, 3, k), dtype=np.float32)  # of single sources and both pairs
    n[:, 0] = kept

    def cube(a: Floats) -> NDArray[np.float32]:
        return a.astype(np.float32)[:, None, None]

    def term(t: int) -> Floats:
        f, g, two = feature[here[:, t]], feature[partner[:, t]], kind[:, t, None]
        f = use * np.where(two <= 0, f, np.where(two == 1, f * g, np.maximum(f, g)))
        return (f - use * (f.sum(axis=1) / rows)[:, None]) * weight[:, t, None]  # type: ignore[no-any-return]

    def mark(t: int, sign: int) -> None:
        for where, on in ((here[:, t], kind[:, t] >= 0), (partner[:, t], kind[:, t] > 0)):
            place[chain, where] += sign * on
            urn[chain, home[where]] += sign * on

    for sweep in range(sweeps):
        inside = mass[step] / document[step][:, home]
        for t in range(TERMS):
            residual += term(t)
            mark(t, -1)
            total = urn.sum(axis=1)[:, None]
            base = ((document[step] + urn) / (1 + total))[:, home] * inside
            draw = (0.3 * base + 0.7 * place / np.maximum(total, 1)).cumsum(axis=1)
            mate = np.where(kind[:, t] > 0, partner[:, t], _pick(draw, rng))
            chance = draw[chain, mate] - np.where(mate > 0, draw[chain, mate - 1], 0.0)
            pair = _PAIRS * (base[chain, mate] * draw[:, -1] / chance)[:, None, None]
            both = (use * feature[mate]) @ feature.T
            n[:, 1], n[:, 2] = both, kept + kept[chain, mate][:, None] - both
            score[:, 0], score[:, 1] = residual @ feature.T, (residual * feature[mate]) @ feature.T
            score[:, 2] = score[:, 0] + score[chain, 0, mate][:, None] - score[:, 1]
            root = np.sqrt((n - n * n / cube(rows)) / cube(sigma) + 1 / cube(slab))
            z = score / (cube(sigma) * root)
            gain = z * z / 2
            best = gain.max(axis=(1, 2))
            odds = np.exp(gain - cube(best)) / root * base[:, None].astype(np.float32)
            # Φ(z) as a logistic curve, right to 0.01 and ten times as fast.
            odds *= (
                1
                - cube(positive)
                + (2 * cube(positive) - 1) / (1 + np.exp(np.minimum(-1.702 * z, 60)))
            )
            odds[:, 0] *= 1 - 2 * _PAIRS
            odds[:, 1:] *= pair.astype(np.float32)
            odds[chain, 1:, mate] = 0.0
            none = (1 - filled) / filled * np.exp(-best) * np.sqrt(slab) / 2
            sums = np.concatenate([odds.sum(axis=2), none[:, None]], axis=1)
            which = _pick(sums.cumsum(axis=1), rng)
            hit, row = which < 3, np.minimum(which, 2)
            pick = np.minimum(_pick(odds[chain, row].cumsum(axis=1), rng), k - 1)
            kind[:, t], here[:, t], partner[:, t] = np.where(hit, row, -1), pick, mate
            slope = _slope(z[chain, row, pick], positive, rng) / root[chain, row, pick]
            weight[:, t] = np.where(hit, slope, 0.0)
            residual -= term(t)
            mark(t, 1)
            swap = (kind[:, t] > 0) & (rng.random(size) < 0.5)
            here[swap, t], partner[swap, t] = partner[swap, t], here[swap, t]
        on, two = kind >= 0, kind > 0
        used = on.sum(axis=1)
        sigma = (0.1 + (residual**2).sum(axis=1) / 2) / rng.gamma(0.5 + rows / 2)
        slab = (2 * _SLAB + (weight**2).sum(axis=1) / 2) / rng.gamma(2 + used / 2)
        positive = rng.beta(5 + (weight > 0).sum(axis=1), 1 + (weight < 0).sum(axis=1))
        filled = rng.beta(1 + used, 1 + TERMS - used)
        fit = np.stack([(np.where(on, q[here], 0) + np.where(two, q[partner], 0)).sum(axis=1)
                        for q in np.log(mass)], axis=1)  # fmt: skip
        step = _pick(np.exp(fit - fit.max(axis=1, keepdims=True)).cumsum(axis=1), rng)
        if sweep >= sweeps // 4:
            c, terms = np.nonzero(on)
            each = (
                np.where(two, 0.5, 1.0)[c, terms] * weight[c, terms]
            )  # of a pair, the other half the time
            for where, who in ((here, np.ones_like(on)), (partner, two)):
                w = who[c, terms]
                index = (step[c[w]], c[w], where[c, terms][w])
                np.add.at(count, index, 1.0)
                np.add.at(effect, index, each[w])
    draws = sweeps - sweeps // 4
    spreading = [np.einsum("scn,sn->cn", a[:, :, code], share) / draws for a in (count, effect)]
    return spreading[0], spreading[1] * spread[:, None]


def sparse(
    x: NDArray[np.generic], groups: Sequence[Ints], prior: Floats | None, rng: np.random.Generator
) -> list[Candidate]:
    """This model as a candidate of `tracelab.stats.surrogate`; none where it would take long."""
    n = x.shape[1]
    group = next((g for g in groups if 1 < len(np.unique(g)) < n), np.zeros(n, dtype=np.int64))
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    if len(_columns(x, group)[0]) > _MOST_KINDS:
        return []

    def fit(x: Floats, y: Floats, seen: NDArray[np.bool_]) -> Floats:
        chains = np.array([*[_CHAINS] * (len(seen) - 1), 3 * _CHAINS])
        rows = np.repeat(seen, chains, axis=0)
        every = np.broadcast_to(y, rows.shape)
        effect = act(x, every, group, rng, prior=prior, seen=rows)[1]
        ends = np.cumsum(chains) - chains
        return np.asarray(np.add.reduceat(effect, ends, axis=0) / chains[:, None])

    return [Candidate(SPARSE, fit)]


def _columns(x: NDArray[np.generic], group: Ints) -> tuple[Ints, Ints]:
    """First source of each kind that masks or documents tell apart, and the kind of each."""
    bits = np.packbits(np.asarray(x).T > 0.5, axis=1)
    key = np.column_stack([np.asarray(group)[:, None], bits.astype(np.int64)])
    _, first, code = np.unique(key, axis=0, return_index=True, return_inverse=True)
    return first, code.ravel()


def _prior(prior: Floats | None, code: Ints, group: Ints, k: int) -> tuple[Floats, Floats, Floats]:
    """By strength of the prior: share of each source in its kind, mass of kinds, of documents."""
    z = np.zeros(len(code))
    if prior is not None and np.std(prior) > 1e-12:
        z = np.clip((prior - prior.mean()) / prior.std(), -3, 3)
    p = np.exp((_STEPS if z.any() else _STEPS[:1])[:, None] * z)
    p /= p.sum(axis=1, keepdims=True)
    mass = np.array([np.bincount(code, row, k) for row in p])
    return p / mass[:, code], mass, np.array([np.bincount(group, row) for row in p])


def _pick(cumulated: Floats, rng: np.random.Generator) -> Ints:
    """One index a row, with chances whose running sums are given."""
    u = rng.random(len(cumulated)) * cumulated[:, -1]
    return np.asarray((cumulated <= u[:, None]).sum(axis=1), dtype=np.int64)


def _slope(z: Floats, positive: Floats, rng: np.random.Generator) -> Floats:
    """From a normal of mean z and variance 1 whose two sides are weighted."""
    up = positive * ndtr(z)
    sign = np.where(rng.random(len(z)) * (up + (1 - positive) * ndtr(-z)) < up, 1.0, -1.0)
    below = ndtr(-sign * z)
    u = np.clip(below + (1 - below) * rng.random(len(z)), 1e-12, 1 - 1e-12)
    return np.asarray(z + sign * ndtri(u), dtype=np.float64)
