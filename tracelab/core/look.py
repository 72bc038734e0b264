"""What is asked of a model's inside, and what is seen there: attention, and its suppression. Pure.

Each kind has a function that makes the `Call` (`look`), whose content is all that an engine needs,
and a class that reads the answer. Positions are tokens; ranges are half-open. Arrays travel as JSON
with their bytes in base 64, so that a journal gives back what an engine gave, bit for bit.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tracelab.core.item import Call, ModelRef, Observation

Range: TypeAlias = tuple[int, int]
ATTENTION, SUPPRESSION, SPANS = "attention", "suppression", "span_attention"


def pack(array: NDArray[Any]) -> dict[str, Any]:
    """An array of numbers as JSON; `unpack` gives it back, NaN and all."""
    flat = np.ascontiguousarray(array)
    data = base64.b64encode(flat.tobytes()).decode("ascii")
    return {"shape": list(flat.shape), "dtype": flat.dtype.str, "data": data}


def unpack(value: Mapping[str, Any]) -> NDArray[Any]:
    """Invert `pack`."""
    raw = base64.b64decode(value["data"])
    return np.frombuffer(raw, dtype=np.dtype(value["dtype"])).reshape(value["shape"]).copy()


def attention_call(
    model: ModelRef,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    units: Sequence[Range],
    *,
    min_distance: int,
) -> Call:
    """Ask for the attention between units of a response.

    Args:
        model: The model.
        prompt_ids: Tokens before the response.
        response_ids: Tokens of the response.
        units: Ranges of response tokens; those without tokens are seen as NaN.
        min_distance: Units this close after a unit do not count in its vertical score.
    """
    return _call(ATTENTION, model, prompt_ids, response_ids, units, min_distance=min_distance)


def suppression_call(
    model: ModelRef,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    units: Sequence[Range],
) -> Call:
    """Ask what hiding each unit from all that comes after it does to the response's tokens."""
    return _call(SUPPRESSION, model, prompt_ids, response_ids, units)


def spans_call(
    model: ModelRef, ids: Sequence[int], spans: Sequence[Range], targets: Sequence[Range]
) -> Call:
    """Ask for the attention of every head from targets to spans; ranges of positions in `ids`."""
    return Call(
        "look",
        {
            "what": SPANS,
            "model": model.key(),
            "ids": list(ids),
            "spans": [list(s) for s in spans],
            "targets": [list(t) for t in targets],
        },
    )


def _call(
    what: str,
    model: ModelRef,
    prompt_ids: Sequence[int],
    response_ids: Sequence[int],
    units: Sequence[Range],
    **more: Any,
) -> Call:
    content = {
        "what": what,
        "model": model.key(),
        "prompt_ids": list(prompt_ids),
        "response_ids": list(response_ids),
        "units": [list(u) for u in units],
        **more,
    }
    return Call("look", content)


@dataclass(frozen=True, slots=True, eq=False)
class AttentionMaps:
    """Attention between the units of one response. Rows attend, columns are attended to.

    Attributes:
        vertical: Vertical score of each unit in each head, float64 [layers, heads, units]; NaN for
            the last units, which have no unit far enough after them.
        mean: Attention averaged over all heads, float64 [units, units]: entry [i, j] is the mean,
            over tokens of i and tokens of j, of the attention that i's pay to j's; NaN for j > i
            and for units without tokens.
        error: `kind: sentence` when it could not be seen; the arrays are then empty.
    """

    vertical: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0, 0)))
    mean: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    error: str | None = None

    def value(self) -> dict[str, Any]:
        """As the answer to `attention_call`."""
        return {"vertical": pack(self.vertical), "mean": pack(self.mean)}

    @classmethod
    def of(cls, o: Observation) -> AttentionMaps:
        """Read the answer."""
        if o.error is not None:
            return cls(error=o.error)
        return cls(unpack(o.value["vertical"]), unpack(o.value["mean"]))


@dataclass(frozen=True, slots=True, eq=False)
class Suppressed:
    """What hiding units does: one row for each hidden unit, one column for each response token.

    Attributes:
        sources: Index of the hidden unit of each row; units without tokens have no row.
        kl: KL(base ‖ suppressed) of the distribution of response token r given all before it,
            float32 [sources, response tokens], nats; NaN where hiding the unit cannot matter (up
            to and including the first token after it).
        drop: log p(token r | base) − log p(token r | suppressed), same shape, nats; NaN alike.
        error: `kind: sentence` when it could not be seen; the arrays are then empty.
    """

    sources: tuple[int, ...] = ()
    kl: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    drop: NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), dtype=np.float32))
    error: str | None = None

    def value(self) -> dict[str, Any]:
        """As the answer to `suppression_call`."""
        return {"sources": list(self.sources), "kl": pack(self.kl), "drop": pack(self.drop)}

    @classmethod
    def of(cls, o: Observation) -> Suppressed:
        """Read the answer."""
        if o.error is not None:
            return cls(error=o.error)
        return cls(tuple(o.value["sources"]), unpack(o.value["kl"]), unpack(o.value["drop"]))


@dataclass(frozen=True, slots=True, eq=False)
class SpanAttention:
    """Attention from targets to spans.

    Attributes:
        values: float32 [targets, heads, spans], heads of all layers in turn: mean over the target's
            tokens (the rows that predict them) and sum over the span's tokens; NaN for a span or a
            target without tokens.
        error: `kind: sentence` when it could not be seen; the array is then empty.
    """

    values: NDArray[np.float32] = field(
        default_factory=lambda: np.empty((0, 0, 0), dtype=np.float32)
    )
    error: str | None = None

    def value(self) -> dict[str, Any]:
        """As the answer to `spans_call`."""
        return {"values": pack(self.values)}

    @classmethod
    def of(cls, o: Observation) -> SpanAttention:
        """Read the answer."""
        return cls(error=o.error) if o.error is not None else cls(unpack(o.value["values"]))
