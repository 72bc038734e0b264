"""Traces under study, and what becomes of their rollouts: graded, placed, loaded, kept small.

A rollout's text goes to the journal and the database; what stays in memory for the estimators is
a `Rollout` of a few numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tracelab.errors import PlanError
from tracelab.grading import Grader
from tracelab.runtime.loader import Loader
from tracelab.segment import reasoning_range, segment
from tracelab.trace import TokenizedTrace, Trace, Unit, tokenized_units
from tracelab.warehouse_load import ItemRow, LoadedTrace, RolloutRow
from tracelab.work import Observation, Outcome, Rollout, diverge_token

_FIRST_SENTENCE_CHARS = 600


@dataclass(slots=True)
class Study:
    """One trace, its units, and its rollouts so far."""

    tokens: TokenizedTrace
    units: list[Unit]
    segmenter: str
    rollouts: list[Rollout] = field(default_factory=list)

    @property
    def trace(self) -> Trace:
        """The trace."""
        return self.tokens.trace

    def loaded(self) -> LoadedTrace:
        """As rows of the database."""
        return LoadedTrace(self.tokens, self.units, self.segmenter)

    def to_json(self) -> dict[str, Any]:
        """As a line of the journal, from which the database can be rebuilt without the model."""
        return {
            "trace": self.trace.to_json(),
            "prompt_ids": list(self.tokens.prompt_ids),
            "response_ids": list(self.tokens.response_ids),
            "starts": list(self.tokens.starts),
            "units": [asdict(u) for u in self.units],
            "segmenter": self.segmenter,
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
        return cls(tokens, [Unit(**u) for u in data["units"]], data["segmenter"])


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
    """Turns observations into graded rollouts of the traces that asked for them."""

    def __init__(
        self,
        studies: Iterable[Study],
        places: Iterable[ItemRow],
        grader: Grader,
        loader: Loader,
    ) -> None:
        """Prepare.

        Args:
            studies: Traces under study; their `rollouts` are filled.
            places: Which boundaries of which traces asked for which item.
            grader: Grades responses.
            loader: Carries rows to the database.
        """
        self._studies = {s.trace.trace_id: s for s in studies}
        self._places: dict[str, dict[str, ItemRow]] = {}
        for p in places:
            # Two boundaries on one token are one place of one trace: the first stands for both.
            self._places.setdefault(p.item_key, {}).setdefault(p.trace_id, p)
        self._grader = grader
        self._loader = loader
        self.total = self.failed = 0

    def __call__(self, observations: list[Observation]) -> None:
        """Grade observations, keep what estimators need, and pass the rest to the loader."""
        rows = []
        for study, rollout, o in self._rollouts(observations):
            study.rollouts.append(rollout)
            rows.append(_row(study, rollout, o))
            self.total += 1
            self.failed += o.error is not None
        self._loader.add(rows)

    def load_again(self, observations: list[Observation]) -> None:
        """Pass observations that were counted before to the loader, and only there."""
        self._loader.add([_row(s, r, o) for s, r, o in self._rollouts(observations)])

    def _rollouts(
        self, observations: list[Observation]
    ) -> Iterator[tuple[Study, Rollout, Observation]]:
        for o in observations:
            for p in self._places.get(o.key, {}).values():
                # A run whose rollouts were lowered since leaves more in its journal than it asks.
                if o.replicate < p.replicates:
                    study = self._studies[p.trace_id]
                    yield study, self._place(o, p, study), o

    def _place(self, o: Observation, p: ItemRow, study: Study) -> Rollout:
        tokens = study.tokens
        if o.error is not None:
            outcome = Outcome(None, None, "ungraded", o.error)
        else:
            starts = tokens.starts
            kept = starts[p.start_token] if p.start_token < len(starts) else None
            outcome = self._grader.grade(
                study.trace.response[:kept] + o.text,
                reference=study.trace.reference,
                own_answer=study.trace.answer,
                finish_reason=o.finish_reason,
            )
        return Rollout(
            item_key=o.key,
            replicate=o.replicate,
            boundary=p.start_boundary,
            start_token=p.start_token,
            diverge_token=diverge_token(p.start_token, o.token_ids, tokens.response_ids),
            outcome=outcome,
            n_tokens=len(o.token_ids),
        )


def _row(study: Study, rollout: Rollout, o: Observation) -> RolloutRow:
    first = segment(o.text[:_FIRST_SENTENCE_CHARS], study.segmenter)
    return RolloutRow.of(
        study.trace.trace_id, rollout, o, first_sentence=first[0].text if first else None
    )
