"""Names of traces that tell them apart in a narrow list: what they share is left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

_ROOM = 26
"""Characters of a name that a narrow list shows."""
_LEAST = 10
"""A beginning that all share is left out from this length on."""
_ABOUT = 70
"""Characters of the question beneath a name."""


def labels(names: Sequence[str], runs: Sequence[str], ids: Sequence[str]) -> list[str]:
    """Short names, no two alike.

    A beginning that all share makes way, where names are too long to be read in a list. Names that
    several traces have are followed by the run, where that differs, and else by the id.

    Args:
        names: What traces are called.
        runs: Their runs.
        ids: Their ids.
    """
    short = _apart(names)
    again = Counter(short)
    pairs = Counter(zip(short, runs, strict=True))
    out = []
    for name, run, trace in zip(short, runs, ids, strict=True):
        if again[name] > 1:
            name += f" · {run}" if pairs[name, run] == 1 else f" · {trace[:8]}"
        out.append(name)
    return out


def abouts(questions: Sequence[str]) -> list[str]:
    """The beginning of each question, from where questions begin to differ."""
    flat = [" ".join(q.split()) for q in questions]
    return [q[:_ABOUT] + ("…" if len(q) > _ABOUT else "") for q in _apart(flat)]


def _apart(names: Sequence[str]) -> list[str]:
    shared = os.path.commonprefix(list(names)) if len(set(names)) > 1 else ""
    # Not in the middle of a word or of a number.
    while shared and shared[-1].isalnum():
        shared = shared[:-1]
    long = max((len(n) for n in names), default=0) > _ROOM
    if not long or len(shared) < _LEAST:
        return list(names)
    return ["…" + n[len(shared) :] for n in names]
