"""Asking for rollouts of a trace, and taking them: graded, placed, annotated, kept small. Pure.

A rollout's text goes to the journal and, as a row, to the database; what stays in memory for the
estimators is a `Rollout` of a few numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracelab.core.flow import Ask
from tracelab.core.item import Item, Observation, Outcome, Rollout, diverge_token
from tracelab.core.rows import ItemRow, RolloutRow
from tracelab.core.seam import GradeRequest
from tracelab.studies.anchors.annotate import Annotator, Found
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.grouping import left_unit
from tracelab.text.segment import segment

_FIRST_SENTENCE_CHARS = 600

FORCE = "force"
"""Intervention of items whose prefix ends in the suffix that makes the model answer at once."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A request and the place in a trace that it is about.

    Attributes:
        boundary: The boundary, 0..N; boundary i is the place before unit i.
        start_token: Response tokens kept in the prefix.
        item: The request.
    """

    boundary: int
    start_token: int
    item: Item


class Receiver:
    """Asks for rollouts of one trace and takes each of their replicates once."""

    def __init__(self, case: Reasoning, cohort: Cohort, *, forced: str | None = None) -> None:
        """Prepare.

        Args:
            case: The trace; its `rollouts`, or `forced`, are filled.
            cohort: The run.
            forced: The text that its items have after the trace's own; None for plain rollouts.
        """
        self._case = case
        self._ctx = cohort.ctx
        self._annotator = Annotator(case, cohort)
        self._forced = forced
        self._into = case.rollouts if forced is None else case.forced
        self._places: dict[str, ItemRow] = {}
        self._taken: dict[str, int] = {}  # bit r: replicate r was taken

    def ask(self, stage: str, planned: Sequence[Planned]) -> Ask:
        """Ask for what was planned, and tell the database what was asked for by now."""
        self._ctx.emit([*{p.item.key: self._planned(p) for p in planned}.values()])
        return Ask(
            stage,
            [p.item for p in planned],
            self._take,
            expected=[self._expected(p) for p in planned],
        )

    def _planned(self, p: Planned) -> ItemRow:
        """A request as a row. Two boundaries on one token are one place: the first stands."""
        there = self._places.get(p.item.key)
        replicates = p.item.replicate_range.stop
        row = ItemRow(
            trace_id=self._case.trace_id,
            item_key=p.item.key,
            start_boundary=p.boundary if there is None else there.start_boundary,
            start_token=p.start_token,
            replicates=replicates if there is None else max(replicates, there.replicates),
            intervention="" if self._forced is None else FORCE,
        )
        self._places[p.item.key] = row
        return row

    def _expected(self, p: Planned) -> int:
        """Tokens that a rollout is expected to generate: what the trace wrote from there."""
        assert p.item.sampling is not None
        rest = len(self._case.tokens.response_ids) - p.start_token
        return max(1, min(rest, p.item.sampling.max_tokens))

    def _take(self, observations: Sequence[Observation]) -> None:
        """Grade observations, keep what estimators need, and emit the rest."""
        found = self._annotator.annotate(self._graded([o for o in observations if self._new(o)]))
        self._into += [rollout for rollout, _ in found]
        self._case.failed += sum(o.error is not None for _, o in found)
        self._ctx.emit([self._row(rollout, o) for rollout, o in found])

    def _new(self, o: Observation) -> bool:
        taken, bit = self._taken.get(o.key, 0), 1 << o.replicate
        self._taken[o.key] = taken | bit
        return not taken & bit

    def _graded(self, observations: Sequence[Observation]) -> list[Found]:
        done = [o for o in observations if o.error is None]
        grades = iter(self._ctx.grading.grade_many([self._request(o) for o in done]))
        return [
            self._rollout(o, next(grades) if o.error is None else _failed(o)) for o in observations
        ]

    def _request(self, o: Observation) -> GradeRequest:
        trace, starts, at = self._case.trace, self._case.tokens.starts, self._places[o.key]
        kept = starts[at.start_token] if at.start_token < len(starts) else None
        return GradeRequest(
            response=trace.response[:kept] + (self._forced or "") + o.text,
            reference=trace.reference,
            own_answer=trace.answer,
            # A forced answer is always cut: the few tokens it gets are for the answer alone.
            finish_reason=o.finish_reason if self._forced is None else "stop",
            trace=trace,
        )

    def _rollout(self, o: Observation, outcome: Outcome) -> Found:
        at, own = self._places[o.key], self._case.tokens.response_ids
        # A forced answer is a sample from its own boundary only.
        leaves = (
            diverge_token(at.start_token, o.token_ids, own)
            if self._forced is None
            else at.start_token
        )
        rollout = Rollout(
            item_key=o.key,
            replicate=o.replicate,
            boundary=at.start_boundary,
            start_token=at.start_token,
            diverge_token=leaves,
            outcome=outcome,
            n_tokens=len(o.token_ids),
        )
        return rollout, o

    def _row(self, rollout: Rollout, o: Observation) -> RolloutRow:
        first = segment(o.text[:_FIRST_SENTENCE_CHARS], self._case.segmenter)
        alone = self._forced is not None or o.error is not None
        return RolloutRow.of(
            self._case.trace_id,
            rollout,
            o,
            first_sentence=first[0].text if first else None,
            left_unit=None if alone else left_unit(rollout, self._case.units),
            intervention=self._places[o.key].intervention,
        )


def _failed(o: Observation) -> Outcome:
    return Outcome(None, None, "ungraded", o.error)
