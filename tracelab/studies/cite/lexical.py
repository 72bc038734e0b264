"""How much a source's words look like a statement's: BM25, a prior that costs no forward pass.

It never enters an effect: it says which sources a sparse surrogate should believe in first when
masks are few, and the surrogate weighs it by what it predicts out of fold. Pure.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_WORD = re.compile(r"\w+")
_K1, _B = 1.2, 0.75


def words(text: str) -> list[str]:
    """Lower-case words and numbers."""
    return [w.lower() for w in _WORD.findall(text)]


def bm25(sources: Sequence[str], statement: str) -> Floats:
    """BM25 of every source for the words of a statement [n] (Robertson & Zaragoza 2009, eq. 3.15).

    Args:
        sources: Texts of the sources; they are the collection, too.
        statement: The query; each of its different words counts once.

    Returns:
        Scores >= 0, larger = more alike; all 0 when no word is shared.
    """
    bags = [Counter(words(s)) for s in sources]
    n = len(bags)
    sizes = np.array([sum(b.values()) for b in bags], dtype=np.float64)
    mean = float(sizes.mean()) if n and sizes.sum() > 0 else 1.0
    out = np.zeros(n)
    for word in dict.fromkeys(words(statement)):
        count = np.array([b[word] for b in bags], dtype=np.float64)
        holds = int((count > 0).sum())
        if holds:
            rarity = math.log(1 + (n - holds + 0.5) / (holds + 0.5))
            out += rarity * count * (_K1 + 1) / (count + _K1 * (1 - _B + _B * sizes / mean))
    return out
