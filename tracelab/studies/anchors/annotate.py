"""What rollouts wrote instead: their own sentence, how like the trace's it is, what they echo.

A rollout follows its trace up to the unit in which it leaves. There it has a sentence of its own;
`similarity` compares it with the unit it stands for, and `echoes` says which later units it says
again, in other places or other words. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from tracelab.core.item import Observation, Rollout
from tracelab.core.seam import Comparing
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.grouping import left_unit
from tracelab.studies.anchors.links import SIMILAR
from tracelab.text.segment import segment

_SENTENCE_CHARS = 600  # a longer sentence is cut before it is compared

Found: TypeAlias = tuple[Rollout, Observation]


class Annotator:
    """Completes rollouts of one trace with what they wrote."""

    def __init__(self, case: Reasoning, cohort: Cohort) -> None:
        """Prepare: without `cohort.comparing`, similarity and echoes stay unknown."""
        self._case = case
        self._comparing = cohort.comparing
        self._echoes = cohort.echoes

    def annotate(self, batch: Sequence[Found]) -> list[Found]:
        """The same rollouts, completed; failed ones are left as they are."""
        units = [None if o.error is not None else left_unit(r, self._case.units) for r, o in batch]
        pieces = [
            [] if unit is None else self._pieces(rollout, o.text, unit)
            for (rollout, o), unit in zip(batch, units, strict=True)
        ]
        own = [p[0][:_SENTENCE_CHARS] if p else None for p in pieces]
        if self._comparing is None:
            return [(replace(r, own_sentence=s), o) for (r, o), s in zip(batch, own, strict=True)]
        said = [
            (sentence, self._case.units[unit].text)
            for sentence, unit in zip(own, units, strict=True)
            if sentence is not None and unit is not None
        ]
        cosines = iter(self._comparing.cosine(said))
        found = []
        for (rollout, o), sentence, unit, rest in zip(batch, own, units, pieces, strict=True):
            cosine = echoes = None
            if sentence is not None:
                cosine = float(np.clip(next(cosines), -1, 1))
            elif unit is not None:
                cosine = 0.0  # it stopped there: nothing is like no sentence
            if self._echoes and unit is not None:
                # What stands in place of one unit may say a later one.
                echoes = self._heard(self._comparing, rest, unit)
            found.append(
                (replace(rollout, own_sentence=sentence, similarity=cosine, echoes=echoes), o)
            )
        return found

    def _pieces(self, rollout: Rollout, text: str, unit: int) -> list[str]:
        """The sentence it wrote in place of a unit, and, if echoes are wanted, those after it."""
        starts = self._case.tokens.starts
        at = starts[self._case.units[unit].token_start] - starts[rollout.start_token]
        whole = self._echoes and self._comparing is not None
        rest = text[at:] if whole else text[at : at + _SENTENCE_CHARS]
        return [s.text for s in segment(rest, self._case.segmenter)]

    def _heard(self, comparing: Comparing, rest: Sequence[str], unit: int) -> int:
        """Bit j: some sentence that it wrote is like unit j, j after `unit`."""
        later = self._case.units[unit + 1 :]
        if not later or not rest:
            return 0
        alike = comparing.matrix([s[:_SENTENCE_CHARS] for s in rest], [u.text for u in later])
        return sum(1 << later[k].index for k in np.flatnonzero(alike.max(axis=0) >= SIMILAR))
