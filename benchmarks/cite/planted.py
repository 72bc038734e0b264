"""A context whose sources have planted effects, as a model would show them.

y = 10 tanh(g / 10) + noise, g = -6 + single sources + a redundant pair (OR) + a joint pair (AND)
+ one that lowers it + a little from every source. The noise belongs to the mask: asking the same
mask twice gives the same answer, as a model does. Pure; log-odds in nats.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_SHAPE = {20: (4, 4, 2), 100: (10, 6, 3), 500: (25, 8, 4)}
"""Sources: documents, relevant sources, documents that hold them."""


class Planted:
    """One context of 20, 100 or 500 sources.

    Attributes:
        tokens: Length of its target.
        n: Sources.
        groups: Document, then paragraph, of each source, each int [n].
        relevant: Indices of the sources that raise the target; the first two are redundant, the
            next two work only together.
        prior: A noisy number per source, `separation` standard deviations higher for relevant ones.
    """

    tokens = 10

    def __init__(self, n: int, rng: np.random.Generator, separation: float = 1.5) -> None:
        """Plant effects; n is 20, 100 or 500."""
        documents, relevant, active = _SHAPE[n]
        self.n = n
        self.groups = (np.repeat(np.arange(documents), n // documents), np.arange(n) // 5)
        pool = np.flatnonzero(np.isin(self.groups[0], rng.choice(documents, active, replace=False)))
        self.relevant = rng.choice(pool, relevant, replace=False)
        self.either, self.both, self.single = np.split(self.relevant, [2, 4])
        self.against = int(rng.choice(np.setdiff1d(np.arange(n), self.relevant)))
        self._single = rng.uniform(1.5, 3, len(self.single))
        self._either, self._both, self._against = rng.uniform([2, 2, -2], [4, 4, -1])
        self._background = rng.normal(0, 0.06, n)
        self._key = rng.bytes(8)
        self.prior = rng.normal(0, 1, n)
        self.prior[self.relevant] += separation

    def linear(self, masks: NDArray[np.bool_]) -> Floats:
        """What the sources add up to, before it saturates [m]."""
        x = np.asarray(masks, dtype=np.float64)
        out: Floats = (
            -6
            + x[:, self.single] @ self._single
            + self._either * x[:, self.either].max(axis=1)
            + self._both * x[:, self.both].min(axis=1)
            + self._against * x[:, self.against]
            + x @ self._background
        )
        return out

    def mean(self, masks: NDArray[np.bool_]) -> Floats:
        """The outcome without its noise [m]."""
        out: Floats = 10 * np.tanh(self.linear(masks) / 10)
        return out

    def y(self, masks: NDArray[np.bool_]) -> Floats:
        """The outcome [m]: log-odds of the target under bool masks [m, n]."""
        noise = [self._noise(np.asarray(row, dtype=np.bool_).tobytes()) for row in masks]
        return self.mean(masks) + 0.35 * np.array(noise)

    def _noise(self, row: bytes) -> float:
        seed = hashlib.blake2b(row, key=self._key, digest_size=8).digest()
        return float(np.random.default_rng(int.from_bytes(seed, "big")).normal())

    def truth(self, rng: np.random.Generator, masks: int = 4000) -> Floats:
        """Average effects [n] by flipping each planted source in many masks.

        The background's are its coefficients times the average slope, which they are to second
        order (0.06 squared is nothing beside the width of an interval).
        """
        half = rng.random((masks // 2, self.n)) < 0.5
        x = np.concatenate([half, ~half])
        slope = float(np.mean(1 - np.tanh(self.linear(x) / 10) ** 2))
        out = self._background * slope
        for j in (*self.relevant, self.against):
            with_j, without = x.copy(), x.copy()
            with_j[:, j], without[:, j] = True, False
            out[j] = float(np.mean(self.mean(with_j) - self.mean(without)))
        return out
