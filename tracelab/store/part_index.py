"""Which observations each part of a journal holds, so that a round reads only the parts it needs.

Parts are never rewritten, so what was learnt of one stays true. An observation is remembered as a
64-bit hash of its key and replicate: 8 bytes each. Two that share a hash cost a needless read, and
nothing else. Knows no file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

Marks = NDArray[np.uint64]

_STRIDE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that replicates of a key differ


class PartIndex:
    """Parts by name, in the order in which they were added."""

    def __init__(self) -> None:
        """Start empty."""
        self._held: dict[str, Marks] = {}

    def __contains__(self, part: str) -> bool:
        return part in self._held

    def add(self, part: str, keys: Sequence[str], replicates: Sequence[int]) -> None:
        """Remember the observations of a part, given by key and replicate, [n] each."""
        with np.errstate(over="ignore"):
            numbers = np.asarray(replicates, dtype=np.int64).astype(np.uint64) * _STRIDE
            held = np.asarray([_base(k) for k in keys], dtype=np.uint64) + numbers
        self._held[part] = np.sort(held)

    def drop(self, part: str) -> None:
        """Forget a part."""
        self._held.pop(part, None)

    def parts_with(self, wanted: Mapping[str, Collection[int]]) -> list[str]:
        """Parts that hold any of the wanted replicates of the wanted keys."""
        asked = _marks(wanted.items())
        return [part for part, held in self._held.items() if _any_of(asked, held)]


def _base(key: str) -> int:
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


def _marks(wanted: Iterable[tuple[str, Collection[int]]]) -> Marks:
    with np.errstate(over="ignore"):
        found = [
            np.uint64(_base(key)) + np.fromiter(r, dtype=np.uint64, count=len(r)) * _STRIDE
            for key, r in wanted
        ]
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.uint64)


def _any_of(asked: Marks, held: Marks) -> bool:
    few, many = (asked, held) if len(asked) < len(held) else (held, asked)
    if not len(few):
        return False
    at = np.minimum(np.searchsorted(many, few), len(many) - 1)
    return bool(np.any(many[at] == few))
