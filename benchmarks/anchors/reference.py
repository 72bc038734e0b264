"""The testbed's reference values as the benchmarks use them: one `Reference` a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.testbed import truth
from tracelab.core.errors import TracelabError
from tracelab.core.unit import Unit
from tracelab.stats.intervals import Floats

FILLER = "filler"
CONSEQUENTIAL = 0.2
"""Reference |ΔV| from which a sentence counts as consequential."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What is known of one trace with N units, from thousands of rollouts.

    Attributes:
        name: The trace's name.
        value: V_b, [N + 1].
        value_se: Standard errors.
        delta: ΔV_i, [N].
        delta_se: Standard errors.
        roles: What each sentence was planted to do.
        rollouts: Behind each value.
    """

    name: str
    value: Floats
    value_se: Floats
    delta: Floats
    delta_se: Floats
    roles: tuple[str, ...]
    rollouts: int


def is_filler(role: str) -> bool:
    """Whether a sentence was planted to mean nothing."""
    return role == FILLER


def consequential(role: str, delta: float) -> bool:
    """Whether a sentence matters by its reference value."""
    return role != FILLER and abs(delta) >= CONSEQUENTIAL


def traces(split: str = "evaluation") -> list[dict[str, Any]]:
    """The reference traces of a split, as JSONL records that tracelab reads."""
    rows = truth.load("traces").to_pylist()
    return [
        {
            "id": r["trace_id"],
            "prompt": r["prompt"],
            "response": r["response"],
            "reference": r["reference"],
        }
        for r in rows
        if r["split"] == split
    ]


def references(split: str = "evaluation") -> dict[str, list[dict[str, Any]]]:
    """Rows of the reference boundaries by trace, in order."""
    wanted = {r["trace_id"] for r in truth.load("traces").to_pylist() if r["split"] == split}
    found: dict[str, list[dict[str, Any]]] = {}
    for row in truth.load("boundaries").to_pylist():
        if row["trace_id"] in wanted:
            found.setdefault(row["trace_id"], []).append(row)
    return found


def match(name: str, units: Sequence[Unit], rows: Sequence[dict[str, Any]]) -> Reference:
    """Place the reference's boundaries on a trace's units.

    Raises:
        TracelabError: They were cut in other places.
    """
    if len(rows) != len(units) + 1 or any(
        u.text.strip() != r["text"].strip() for u, r in zip(units, rows, strict=False)
    ):
        raise TracelabError(f"{name}: its sentences are not those of the reference values")
    value = np.array([r["value"] for r in rows])
    se = np.array([r["value_se"] for r in rows])
    return Reference(
        name=name,
        value=value,
        value_se=se,
        delta=np.diff(value),
        delta_se=np.hypot(se[1:], se[:-1]),
        roles=tuple(r["role"] for r in rows[:-1]),
        rollouts=int(rows[0]["n"]),
    )
