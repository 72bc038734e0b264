"""One context whose outcomes are sampled answers: each mask is answered anew, some times.

The outcome of a mask is the mean of what its answers count (`worth`). That is one number with two
noises: which masks were drawn, and which answers. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import stdtrit

from tracelab.core.finding import Score
from tracelab.core.item import Item, Observation
from tracelab.core.seam import Comparing
from tracelab.stats.effects import SampledOutcomes
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools
from tracelab.studies.cite.ablations import Ablations, hex_mask
from tracelab.studies.cite.answers.worth import Counted, columns, compared, lost
from tracelab.studies.cite.attribution import SpanScores
from tracelab.studies.cite.grounding import ALPHA, Grounding, some_act
from tracelab.studies.cite.methods.registry import ALWAYS
from tracelab.studies.cite.rows import MaskedAnswerRow, TargetRow
from tracelab.studies.cite.targets import Target

ENDS = 16
"""Least answers of the whole and of the empty context: labels rest on their difference."""
OWN = 0.5
"""Mean outcome without any source from which on a target counts as the model's own."""


@dataclass(slots=True)
class SampledAblations(Ablations):
    """The work on one context; rows of masks are as there, and there are no log-probabilities."""

    _comparing: Comparing | None = field(init=False, default=None)
    _heard: dict[str, dict[int, Counted]] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)
    _failures: int = 0

    def __post_init__(self) -> None:
        Ablations.__post_init__(self)
        if self.options.compare == "similarity":
            self._comparing = self.ctx.comparing(self.options.similarity)

    def scores(self, method: str, target: str) -> SpanScores:
        """See `Ablations.scores`; effects rest on answers that were given."""
        made = Ablations.scores(self, method, target)
        graded = self.options.compare != "similarity"
        evidence = self.ctx.grading.evidence if graded else "executed"
        return replace(made, evidence=evidence) if method == ALWAYS else made

    def _request(self, number: int) -> None:
        o, row = self.options, self.rows[number]
        least = ENDS if row.purpose in ("full", "empty") else 1
        item = Item(
            model=self.ctx.model,
            prefix_ids=self.prompt(number),
            sampling=self.ctx.sampling,
            seed=self.ctx.seed,
            replicates=max(o.samples, least),
        )
        row.keys = (item.key,)
        if item.key not in self._heard:
            self._owed.setdefault(item.key, (item, number, 0))

    def _expected(self, items: int) -> Sequence[int]:
        own = len(self.case.tokens.response_ids)
        return [max(1, min(own, self.ctx.sampling.max_tokens))] * items

    def _take(self, batch: Sequence[Observation]) -> None:
        new = {
            (o.key, o.replicate): o for o in batch if o.replicate not in self._heard.get(o.key, {})
        }
        counted = compared(
            [*new.values()], self.case.trace, self.case.targets, self.options, self.ctx.grading,
            self._comparing,
        )  # fmt: skip
        rows = []
        for o, said in zip(new.values(), counted, strict=True):
            if o.key in self._owed:
                self._asked[o.key] = self._owed.pop(o.key)[1]
            self._heard.setdefault(o.key, {})[o.replicate] = said
            self._failures += o.error is not None
            number = self._asked[o.key]
            row = self.rows[number]
            rows.append(
                MaskedAnswerRow(
                    self.case.trace_id, o.key, o.replicate, number,
                    f"{self.case.mode}:{row.purpose}:{hex_mask(row.kept)}", o.text,
                    finish_reason=o.finish_reason, error=o.error, n_tokens=len(o.token_ids),
                    cached_tokens=o.cached_tokens, **columns(said),
                )
            )  # fmt: skip
        self.ctx.emit(rows)

    def _tell(self, key: str, number: int, c: int, cached: int | None = None) -> None:
        """A mask whose prompt the template refuses has no answer, and a row that says why."""
        row = self.rows[number]
        self.ctx.emit([
            MaskedAnswerRow(
                self.case.trace_id, key, 0, number,
                f"{self.case.mode}:{row.purpose}:{hex_mask(row.kept)}", "", None, None, None, None,
                None, "error", row.error, 0,
            )
        ])  # fmt: skip

    def _worth(self, row: int, target: Target) -> Floats:
        """What the answers under a row's mask count for a target, those that count."""
        position = self.case.targets.index(target)
        heard = [self._heard.get(k, {}) for k in self.rows[row].keys]
        found = [h[r].worth for h in heard for r in sorted(h)]
        return np.array([w[position] for w in found if w is not None], dtype=np.float64)

    def outcome(self, target: Target, rows: Sequence[int]) -> Floats:
        """See `Ablations.outcome`: the mean of what answers count; NaN where none does."""
        worth = [self._worth(r, target) for r in rows]
        return np.array([w.mean() if len(w) else np.nan for w in worth], dtype=np.float64)

    def sampled(self, target: Target, rows: Sequence[int]) -> SampledOutcomes:
        """See `Ablations.sampled`."""
        worth = [self._worth(r, target) for r in rows]
        noise = [w.var(ddof=1) / len(w) if len(w) > 1 else np.inf for w in worth]
        return SampledOutcomes(np.array(noise), np.array([len(w) for w in worth], dtype=np.int64))

    def logprob(self, target: Target, kept: Bools) -> float | None:
        """None: no text is scored."""
        return None

    def measured(self, target: Target, kept: Bools) -> float | None:
        """See `Ablations.measured`: the mean outcome."""
        if not self.known(np.asarray(kept, dtype=np.bool_)):
            return None
        [value] = self.outcome(target, [self.row_of(np.asarray(kept, dtype=np.bool_))])
        return float(value) if np.isfinite(value) else None

    def undecided(self) -> list[Target]:
        """None: nothing of the response stands before an answer that is sampled."""
        return []

    def label(self, target: Target, alone: float | None) -> TargetRow:
        """See `Ablations.label`."""
        found = self.found[target.name][ALWAYS]
        ends = [self.row_of(np.full(self.n, kept)) for kept in (True, False)]
        full, empty = (self._worth(r, target) for r in ends)
        # No mask is left that could be predicted.
        every = len({r.kept.tobytes() for r in self.rows if r.purpose == "design"}) == 2**self.n
        effects = self.effects(target.name, ALWAYS)
        return TargetRow(
            self.case.trace_id, target.name, self.case.targets.index(target), target.kind,
            target.text, target.other, target.end - target.start, None, None, None,
            sampled_label(full, empty, effects, acts=every or some_act(found)), found.n,
            outcome=self.options.compare,
            value_full=float(full.mean()) if len(full) else None,
            value_empty=float(empty.mean()) if len(empty) else None,
        )  # fmt: skip

    def losses(self) -> tuple[int, int, int]:
        """See `Ablations.losses`."""
        return lost([c for heard in self._heard.values() for c in heard.values()])

    def counts(self) -> tuple[int, int]:
        """Answers asked for, and those that failed; a refused prompt fails all of its own."""
        refused = self.options.samples * sum(r.error is not None for r in self.rows)
        heard = sum(map(len, self._heard.values()))
        return refused + heard, refused + self._failures


def sampled_label(full: Floats, empty: Floats, scores: Sequence[Score], *, acts: bool) -> Grounding:
    """Say what an answer rests on.

    Args:
        full: What answers with the whole context count [samples].
        empty: With every source ablated.
        scores: Effects, one a source.
        acts: Whether some source acts at all, by one test over all of them.

    Returns:
        As `tracelab.studies.cite.grounding.label`, where the context raises an answer when it is
        given more often with it than without, one-sided; never `derived` or `parametric`, for
        nothing stands before a sampled answer: what the context does not raise, and is given at
        least half of the time without it, is from `memory`.
    """
    if len(full) < 2 or len(empty) < 2:
        return "insufficient"
    # As for effects: no arm is surer than with one more answer of the other kind.
    square = [max(x.var(ddof=1) / len(x), 1 / (len(x) + 2) ** 2) for x in (full, empty)]
    least = stdtrit(min(len(full), len(empty)) - 1, 1 - ALPHA) * np.sqrt(sum(square))
    if full.mean() - empty.mean() > least:
        shown = acts and any(s.lo is not None and s.lo > 0 for s in scores)
        return "grounded" if shown else "diffuse"
    return "memory" if empty.mean() >= OWN else "ungrounded"
