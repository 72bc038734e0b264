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
    use = np.ones(y.shape) if seen is None else np.asarray(seen, dtype=np.float64)
    first, code = _columns(x, group)
    share, mass, document = _prior(prior, code, group, len(first))
    feature = np.asarray(x, dtype=np.float64).T[first]
    chains = _Chains(feature, y, use, group[first], mass, document, rng)
    for sweep in range(sweeps):
        chains.sweep()
        if sweep >= sweeps // 4:
            chains.collect()
    draws = sweeps - sweeps // 4
    found = [np.einsum("scn,sn->cn", a[:, :, code], share) / draws
             for a in (chains.count, chains.effect)]  # fmt: skip
    return found[0], found[1] * chains.spread[:, None]


class _Chains:
    """The state of all chains, which advance together.

    Shapes: C chains, k kinds of sources, m masks, `TERMS` terms a chain. Outcomes are centred and
    in units of their spread.

    Attributes:
        kind: Of each term, [C, TERMS]: -1 none, 0 one source, 1 both of two, 2 one of two.
        here: Its source, [C, TERMS].
        partner: Of a pair, the other one, [C, TERMS].
        weight: What it adds, [C, TERMS].
        count: Terms that each kind has been in, by strength of the prior, [strengths, C, k].
        effect: Sum of their average effects, likewise.
        spread: Unit of the outcomes, [C].
    """

    def __init__(
        self, feature: Floats, y: Floats, use: Floats, home: Ints, mass: Floats, document: Floats,
        rng: np.random.Generator,
    ) -> None:  # fmt: skip
        """Start without a term.

        Args:
            feature: Whether masks keep each kind, [k, m].
            y: Outcomes, [C, m].
            use: 1 for rows that a chain may use, else 0, [C, m].
            home: Document of each kind, [k].
            mass: Prior mass of each kind, by strength of the prior, [strengths, k].
            document: The same of documents, [strengths, documents].
            rng: The sampler's.
        """
        self.feature, self.use, self.home, self.rng = feature, use, home, rng
        self.mass, self.document = mass, document
        self.rows = use.sum(axis=1)
        self.kept = use @ feature.T
        y = np.where(use > 0, y, 0.0)
        y = use * (y - (y.sum(axis=1) / self.rows)[:, None])
        self.spread = np.sqrt((y**2).sum(axis=1) / self.rows) + 1e-12
        self.residual = y / self.spread[:, None]
        size, k = len(y), len(feature)
        self.chain = np.arange(size)
        self.sigma, self.slab = np.full(size, 0.5), np.full(size, _SLAB)
        self.positive, self.filled = np.full(size, 0.85), np.full(size, 0.5)
        self.step = self.chain % len(mass)
        self.here, self.partner = np.zeros((2, size, TERMS), dtype=np.int64)
        self.kind, self.weight = np.full((size, TERMS), -1), np.zeros((size, TERMS))
        self.place, self.urn = np.zeros((size, k)), np.zeros((size, document.shape[1]))
        self.count, self.effect = np.zeros((2, len(mass), size, k))
        self.n = np.zeros((size, 3, k), dtype=np.float32)  # rows that keep one, both, either
        self.n[:, 0] = self.kept

    def sweep(self) -> None:
        """Draw every term anew, then what all terms of a chain share."""
        inside = self.mass[self.step] / self.document[self.step][:, self.home]
        for t in range(TERMS):
            self.residual += self._term(t)
            self._mark(t, -1)
            self._draw(t, inside)
            self.residual -= self._term(t)
            self._mark(t, 1)
            # Of a pair, either may be the one that keeps its place when the other is drawn.
            swap = (self.kind[:, t] > 0) & (self.rng.random(len(self.chain)) < 0.5)
            here, partner = self.here[:, t].copy(), self.partner[:, t].copy()
            self.here[swap, t], self.partner[swap, t] = partner[swap], here[swap]
        self._learn()

    def collect(self) -> None:
        """Add the terms of now to `count` and `effect`."""
        on, two = self.kind >= 0, self.kind > 0
        c, t = np.nonzero(on)
        # A member of a pair acts in half of the masks: where the other one is kept, or is not.
        each = np.where(two, 0.5, 1.0)[c, t] * self.weight[c, t]
        for where, who in ((self.here, on), (self.partner, two)):
            w = who[c, t]
            index = (self.step[c[w]], c[w], where[c, t][w])
            np.add.at(self.count, index, 1.0)
            np.add.at(self.effect, index, each[w])

    def _term(self, t: int) -> Floats:
        """What term t of each chain adds, centred, [C, m]."""
        f, g = self.feature[self.here[:, t]], self.feature[self.partner[:, t]]
        two = self.kind[:, t, None]
        f = self.use * np.where(two <= 0, f, np.where(two == 1, f * g, np.maximum(f, g)))
        centred = f - self.use * (f.sum(axis=1) / self.rows)[:, None]
        return np.asarray(centred * self.weight[:, t, None])

    def _mark(self, t: int, sign: int) -> None:
        """Count term t in, or out, where it is."""
        ends = (self.here, self.kind >= 0), (self.partner, self.kind > 0)
        for where, on in ((w[:, t], o[:, t]) for w, o in ends):
            self.place[self.chain, where] += sign * on
            self.urn[self.chain, self.home[where]] += sign * on

    def _draw(self, t: int, inside: Floats) -> None:
        """Draw term t of each chain: none, a source, or a pair with a partner drawn before."""
        rng, chain, feature = self.rng, self.chain, self.feature
        total = self.urn.sum(axis=1)[:, None]
        base = ((self.document[self.step] + self.urn) / (1 + total))[:, self.home] * inside
        draw = (0.3 * base + 0.7 * self.place / np.maximum(total, 1)).cumsum(axis=1)
        mate = np.where(self.kind[:, t] > 0, self.partner[:, t], _pick(draw, rng))
        chance = draw[chain, mate] - np.where(mate > 0, draw[chain, mate - 1], 0.0)
        pair = _PAIRS * (base[chain, mate] * draw[:, -1] / chance)[:, None, None]
        z, root = self._evidence(mate)
        gain = z * z / 2
        best = gain.max(axis=(1, 2))
        odds = np.exp(gain - _cube(best)) / root * base[:, None].astype(np.float32)
        positive = _cube(self.positive)
        # Φ(z) as a logistic curve, right to 0.01 and ten times as fast.
        above = (2 * positive - 1) / (1 + np.exp(np.minimum(-1.702 * z, 60)))
        odds *= 1 - positive + above
        odds[:, 0] *= 1 - 2 * _PAIRS
        odds[:, 1:] *= pair.astype(np.float32)
        odds[chain, 1:, mate] = 0.0
        none = (1 - self.filled) / self.filled * np.exp(-best) * np.sqrt(self.slab) / 2
        which = _pick(np.concatenate([odds.sum(axis=2), none[:, None]], axis=1).cumsum(axis=1), rng)
        hit, row = which < 3, np.minimum(which, 2)
        pick = np.minimum(_pick(odds[chain, row].cumsum(axis=1), rng), len(feature) - 1)
        self.kind[:, t], self.here[:, t] = np.where(hit, row, -1), pick
        self.partner[:, t] = mate
        slope = _slope(z[chain, row, pick], self.positive, rng) / root[chain, row, pick]
        self.weight[:, t] = np.where(hit, slope, 0.0)

    def _evidence(self, mate: Ints) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Standardised slopes of single sources and of both kinds of pairs, and their precision.

        Each [C, 3, k], the precision as its root.
        """
        feature, score = self.feature, np.zeros(self.n.shape, dtype=np.float32)
        both = (self.use * feature[mate]) @ feature.T
        alone = self.kept[self.chain, mate][:, None]
        self.n[:, 1], self.n[:, 2] = both, self.kept + alone - both
        score[:, 0] = self.residual @ feature.T
        score[:, 1] = (self.residual * feature[mate]) @ feature.T
        score[:, 2] = score[:, 0] + score[self.chain, 0, mate][:, None] - score[:, 1]
        spare = (self.n - self.n * self.n / _cube(self.rows)) / _cube(self.sigma)
        root = np.sqrt(spare + 1 / _cube(self.slab))
        return score / (_cube(self.sigma) * root), root

    def _learn(self) -> None:
        """Draw the variances, the shares, and the strength of the prior from their terms."""
        rng, on, two = self.rng, self.kind >= 0, self.kind > 0
        used = on.sum(axis=1)
        squares = (self.residual**2).sum(axis=1)
        self.sigma = (0.1 + squares / 2) / rng.gamma(0.5 + self.rows / 2)
        self.slab = (2 * _SLAB + (self.weight**2).sum(axis=1) / 2) / rng.gamma(2 + used / 2)
        signs = [(s * self.weight > 0).sum(axis=1) for s in (1, -1)]
        self.positive = rng.beta(5 + signs[0], 1 + signs[1])
        self.filled = rng.beta(1 + used, 1 + TERMS - used)
        fit = np.stack(
            [(np.where(on, q[self.here], 0) + np.where(two, q[self.partner], 0)).sum(axis=1)
             for q in np.log(self.mass)], axis=1
        )  # fmt: skip
        odds = np.exp(fit - fit.max(axis=1, keepdims=True))
        self.step = _pick(odds.cumsum(axis=1), rng)


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


def _cube(a: Floats) -> NDArray[np.float32]:
    return a.astype(np.float32)[:, None, None]


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
