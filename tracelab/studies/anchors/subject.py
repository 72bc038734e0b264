"""Traces under study, and what becomes of their rollouts: graded, placed, loaded, kept small.

A rollout's text goes to the journal and the database; what stays in memory for the estimators is
a `Rollout` of a few numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from tracelab.core.errors import PlanError
from tracelab.core.item import Observation, Outcome, Rollout, diverge_token
from tracelab.core.rows import ItemRow, RolloutRow
from tracelab.core.seam import GradeRequest
from tracelab.core.trace import TokenizedTrace, Trace, tokenized_units
from tracelab.core.unit import Unit
from tracelab.grading.grader import Grader
from tracelab.store.load import LoadedTrace
from tracelab.studies.anchors.grouping import left_unit
from tracelab.text.categories import categorize
from tracelab.text.segment import reasoning_range, segment

_FIRST_SENTENCE_CHARS = 600

FORCE = "force"
"""Intervention of items whose prefix ends in the suffix that makes the model answer at once."""


@dataclass(slots=True)
class Study:
    """One trace, its units, and its rollouts so far."""

    tokens: TokenizedTrace
    units: list[Unit]
    segmenter: str
    keep: list[float] | None = None
    """P(the model writes exactly each unit, given what is before it), if known."""
    rollouts: list[Rollout] = field(default_factory=list)
    forced: list[Rollout] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        """The trace."""
        return self.tokens.trace

    def loaded(self) -> LoadedTrace:
        """As rows of the database."""
        total = len(self.units)
        if any(u.kind != "sentence" for u in self.units):  # categories are of reasoning
            return LoadedTrace(self.tokens, self.units, self.segmenter)
        kinds = [categorize(u.text, index=u.index, total=total) for u in self.units]
        return LoadedTrace(self.tokens, self.units, self.segmenter, kinds)

    def to_json(self) -> dict[str, Any]:
        """As a line of the journal, from which the database can be rebuilt without the model."""
        return {
            "trace": self.trace.to_json(),
            "prompt_ids": list(self.tokens.prompt_ids),
            "response_ids": list(self.tokens.response_ids),
            "starts": list(self.tokens.starts),
            "units": [asdict(u) for u in self.units],
            "segmenter": self.segmenter,
            "keep": self.keep,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Study:
        """Invert `to_json`."""
        tokens = TokenizedTrace(
            Trace.from_json(data["trace"]),
            tuple(data["prompt_ids"]),
            tuple(data["response_ids"]),
            tuple(data["starts"]),
        )
        units = [Unit(**u) for u in data["units"]]
        return cls(tokens, units, data["segmenter"], data.get("keep"))


class Rows(Protocol):
    """Takes rows of `rollouts` somewhere."""

    def add(self, rows: list[RolloutRow]) -> None:
        """Take some."""
        ...


class Nowhere:
    """Takes rows and keeps none: for whoever only wants the estimators' numbers."""

    def add(self, rows: list[RolloutRow]) -> None:
        """Drop them."""


Found = tuple[Study, Rollout, Observation]
Annotate = Callable[[list[Found]], list[Found]]


def begin(tokens: TokenizedTrace, segmenter: str, *, max_units: int, context_length: int) -> Study:
    """Cut a trace's reasoning into sentences.

    Raises:
        PlanError: It has none, too many, or does not fit the model's context.
    """
    size = len(tokens.prompt_ids) + len(tokens.response_ids)
    if size >= context_length:
        raise PlanError(
            f"needs {size} tokens ({len(tokens.prompt_ids)} of them prompt), but the model's "
            f"context holds {context_length}"
        )
    text = tokens.trace.response
    start, end = reasoning_range(text)
    spans = [(start + s.start, start + s.end) for s in segment(text[start:end], segmenter)]
    if not spans:
        raise PlanError("the response has no reasoning to study")
    if len(spans) > max_units:
        raise PlanError(f"has {len(spans)} sentences, more than resample.max_units = {max_units}")
    roles = _roles(tokens.trace, spans)
    return Study(tokens, tokenized_units(tokens, spans, roles=roles), segmenter)


def _roles(trace: Trace, spans: Sequence[tuple[int, int]]) -> list[str | None]:
    """Known roles of the units: that of the labelled range which a unit overlaps most."""
    known: Iterable[Sequence[Any]] = trace.extra.get("roles", ())
    roles: list[str | None] = []
    for start, end in spans:
        overlap = [(min(end, e) - max(start, s), role) for s, e, role in known]
        best = max(overlap, default=(0, None), key=lambda x: x[0])
        roles.append(best[1] if best[0] > 0 else None)
    return roles


class RolloutSink:
    """Turns observations into graded rollouts of the traces that asked for them.

    An observation may come more than once (two rounds of one run can share an item); each trace
    takes each replicate once.
    """

    def __init__(
        self,
        studies: Iterable[Study],
        grader: Grader,
        loader: Rows,
        annotate: Annotate = list,
        suffix: str = "",
    ) -> None:
        """Prepare.

        Args:
            studies: Traces under study; their `rollouts` and `forced` are filled.
            grader: Grades responses.
            loader: Carries rows to the database.
            annotate: Completes rollouts with what they wrote (`runtime.annotate`).
            suffix: Text that forced items have after the trace's own.
        """
        self._studies = {s.trace.trace_id: s for s in studies}
        self._places: dict[str, dict[str, ItemRow]] = {}
        self._taken: dict[tuple[str, str], int] = {}  # bit r: replicate r was taken
        self._grader = grader
        self._loader = loader
        self._annotate = annotate
        self._suffix = suffix
        self.total = self.failed = 0

    def expect(self, places: Iterable[ItemRow]) -> None:
        """Say which boundaries of which traces ask for which item; later news replaces earlier."""
        latest: dict[str, dict[str, ItemRow]] = {}
        for p in places:
            # Two boundaries on one token are one place of one trace: the first stands for both.
            latest.setdefault(p.item_key, {}).setdefault(p.trace_id, p)
        self._places |= latest

    def __call__(self, observations: list[Observation]) -> None:
        """Grade observations, keep what estimators need, and pass the rest to the loader."""
        rows = []
        for study, rollout, o in self._annotate(self._graded(self._new(observations))):
            forced = self._places[o.key][study.trace.trace_id].intervention == FORCE
            (study.forced if forced else study.rollouts).append(rollout)
            rows.append(self._row(study, rollout, o))
            self.total += 1
            self.failed += o.error is not None
        self._loader.add(rows)

    def load_again(self, observations: list[Observation]) -> None:
        """Pass observations that were counted before to the loader, and only there."""
        found = self._annotate(self._graded(list(self._placed(observations))))
        self._loader.add([self._row(*f) for f in found])

    def _placed(self, observations: list[Observation]) -> Iterator[tuple[ItemRow, Observation]]:
        for o in observations:
            for p in self._places.get(o.key, {}).values():
                # A run whose rollouts were lowered since leaves more in its journal than it asks.
                if o.replicate < p.replicates:
                    yield p, o

    def _new(self, observations: list[Observation]) -> list[tuple[ItemRow, Observation]]:
        found = []
        for p, o in self._placed(observations):
            place, bit = (p.item_key, p.trace_id), 1 << o.replicate
            if not self._taken.get(place, 0) & bit:
                self._taken[place] = self._taken.get(place, 0) | bit
                found.append((p, o))
        return found

    def _graded(self, placed: list[tuple[ItemRow, Observation]]) -> list[Found]:
        done = [(p, o) for p, o in placed if o.error is None]
        grades = iter(self._grader.grade_many([self._request(p, o) for p, o in done]))
        found = []
        for p, o in placed:
            failed = o.error is not None
            outcome = Outcome(None, None, "ungraded", o.error) if failed else next(grades)
            found.append((self._studies[p.trace_id], self._rollout(p, o, outcome), o))
        return found

    def _request(self, p: ItemRow, o: Observation) -> GradeRequest:
        study = self._studies[p.trace_id]
        starts, trace = study.tokens.starts, study.trace
        kept = starts[p.start_token] if p.start_token < len(starts) else None
        between = self._suffix if p.intervention == FORCE else ""
        return GradeRequest(
            response=trace.response[:kept] + between + o.text,
            reference=trace.reference,
            own_answer=trace.answer,
            finish_reason=o.finish_reason,
            trace=trace,
        )

    def _rollout(self, p: ItemRow, o: Observation, outcome: Outcome) -> Rollout:
        own = self._studies[p.trace_id].tokens.response_ids
        forced = p.intervention == FORCE
        return Rollout(
            item_key=o.key,
            replicate=o.replicate,
            boundary=p.start_boundary,
            start_token=p.start_token,
            # A forced answer is a sample from its own boundary only.
            diverge_token=p.start_token
            if forced
            else diverge_token(p.start_token, o.token_ids, own),
            outcome=outcome,
            n_tokens=len(o.token_ids),
        )

    def _row(self, study: Study, rollout: Rollout, o: Observation) -> RolloutRow:
        first = segment(o.text[:_FIRST_SENTENCE_CHARS], study.segmenter)
        place = self._places[o.key][study.trace.trace_id]
        forced = place.intervention == FORCE
        return RolloutRow.of(
            study.trace.trace_id,
            rollout,
            o,
            first_sentence=first[0].text if first else None,
            left_unit=None if forced or o.error else left_unit(rollout, study.units),
            intervention=place.intervention,
        )
