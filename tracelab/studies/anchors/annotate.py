"""What rollouts wrote instead: their own sentence, how like the trace's it is, what they echo.

A rollout follows its trace up to the unit in which it leaves. There it has a sentence of its own;
`similarity` compares it with the unit it stands for, and `echoes` says which later units it says
again, in other places or other words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tracelab.core.item import Rollout
from tracelab.engines.similarity import Similarity
from tracelab.studies.anchors.grouping import left_unit
from tracelab.studies.anchors.subject import Found, Study
from tracelab.text.segment import segment

_SENTENCE_CHARS = 600  # a longer sentence is cut before it is compared


class Annotator:
    """Completes rollouts with what they wrote."""

    def __init__(self, similarity: Similarity | None, *, echoes: bool, threshold: float) -> None:
        """Prepare.

        Args:
            similarity: Compares sentences; None leaves `similarity` and `echoes` unknown.
            echoes: Whether to look for the trace's later units in the rest of each rollout.
            threshold: Cosine from which two sentences say the same.
        """
        self.similarity = similarity
        self._echoes = echoes and similarity is not None
        self._threshold = threshold

    @property
    def name(self) -> str | None:
        """What compares sentences, if anything does."""
        return None if self.similarity is None else self.similarity.name

    def __call__(self, batch: Sequence[Found]) -> list[Found]:
        """The same rollouts, completed; failed ones are left as they are."""
        own: list[str | None] = []
        pairs: list[tuple[str, str]] = []
        left: list[int | None] = []
        rests: list[list[str]] = []
        for study, rollout, o in batch:
            unit = None if o.error is not None else left_unit(rollout, study.units)
            pieces = [] if unit is None else self._pieces(study, rollout, o.text, unit)
            left.append(unit)
            own.append(pieces[0][:_SENTENCE_CHARS] if pieces else None)
            rests.append(pieces)  # what stands in place of one unit may say a later one
            if pieces and unit is not None:
                pairs.append((pieces[0][:_SENTENCE_CHARS], study.units[unit].text))
        cosines = iter(() if self.similarity is None else self.similarity.cosine(pairs))
        found = []
        for (study, rollout, o), sentence, unit, rest in zip(batch, own, left, rests, strict=True):
            cosine = None
            if sentence is not None and self.similarity is not None:
                cosine = float(np.clip(next(cosines), -1, 1))
            elif unit is not None and self.similarity is not None:
                cosine = 0.0  # it stopped there: nothing is like no sentence
            echoes = None
            if self._echoes and unit is not None:
                echoes = self._heard(study, rest, unit)
            done = replace(rollout, own_sentence=sentence, similarity=cosine, echoes=echoes)
            found.append((study, done, o))
        return found

    def _pieces(self, study: Study, rollout: Rollout, text: str, unit: int) -> list[str]:
        """The sentence it wrote in place of a unit, and, if echoes are wanted, those after it."""
        starts = study.tokens.starts
        at = starts[study.units[unit].token_start] - starts[rollout.start_token]
        rest = text[at:] if self._echoes else text[at : at + _SENTENCE_CHARS]
        return [s.text for s in segment(rest, study.segmenter)]

    def _heard(self, study: Study, rest: Sequence[str], unit: int) -> int:
        """Bit j: some sentence that it wrote is like unit j, j after `unit`."""
        later = study.units[unit + 1 :]
        if not later or not rest:
            return 0
        assert self.similarity is not None
        alike = self.similarity.matrix([s[:_SENTENCE_CHARS] for s in rest], [u.text for u in later])
        return sum(
            1 << later[k].index for k in np.flatnonzero(alike.max(axis=0) >= self._threshold)
        )
