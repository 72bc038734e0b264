"""What can be credited: sentences, spans, steps. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

UnitKind = Literal["sentence", "span", "step"]


@dataclass(frozen=True, slots=True)
class Unit:
    """Something that can be credited: a piece of a trace.

    Attributes:
        kind: `sentence`, `span` or `step`.
        index: Position among the units of this kind and trace, from 0.
        start: First character, in `trace.response` for sentences.
        end: One past the last character.
        token_start: First response token of the unit.
        token_end: One past its last token; equals the next unit's `token_start`.
        text: The characters `[start, end)`, leading whitespace included.
        role: What the unit is known to do (a planted role, a published tag), if known.
    """

    kind: UnitKind
    index: int
    start: int
    end: int
    token_start: int
    token_end: int
    text: str
    role: str | None = None
