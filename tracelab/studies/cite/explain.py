"""From log-probabilities of masks to scores, labels, and tests of the scores, one study at a time.

`explain` needs the masks of the design, the full and the empty one; `test` also those that were
asked because of the scores. Both only compute, so a run can be rebuilt from its journal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from tracelab.core.finding import Score
from tracelab.run.config import RunConfig
from tracelab.stats.held_out import curve_area, curve_masks, lds, top_k_masks
from tracelab.stats.masks import Design, Purpose, design
from tracelab.store.cite_rows import FaithfulnessRow, SpanRow, TargetRow
from tracelab.studies.cite import ablate, cites, heads
from tracelab.studies.cite.ablate import METHOD
from tracelab.studies.cite.grounding import label, parametric_share
from tracelab.studies.cite.options import ContextConfig
from tracelab.studies.cite.probes import Bools, Floats, ProbeSink
from tracelab.studies.cite.questions import METHODS, Answer, Asker, wanted
from tracelab.studies.cite.subject import ContextStudy
from tracelab.studies.cite.targets import Target

TEST = "test"
"""Purpose of masks that test scores: without the top sources, and along the curves."""
QUESTION = "question"
"""Purpose of masks that a method asked for after seeing others."""
EFFECT = "effect"
BASELINES = (*heads.METHODS, cites.METHOD)
"""Methods that ablate nothing, held to the same tests as those that do."""
MIN_HELD_OUT = 8
"""Fewest held-out masks for a rank correlation that says anything."""


@dataclass(slots=True)
class Explained:
    """A study with its scores, by target, and what is known of their quality.

    Attributes:
        study: The study.
        found: Attributions by target and method.
        targets: Rows of the database.
        faithfulness: Rows of the database; empty before `test`.
        answers: Of the methods that ask again, about the targets that the context raises.
    """

    study: ContextStudy
    found: dict[str, dict[str, ablate.Attribution]] = field(default_factory=dict)
    targets: list[TargetRow] = field(default_factory=list)
    faithfulness: list[FaithfulnessRow] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)

    @property
    def all_scores(self) -> list[Score]:
        """Scores of all targets and methods."""
        own = [s for by in self.found.values() for a in by.values() for s in a.scores]
        return own + [s for a in self.answers for s in a.scores]

    def effects(self, target: str) -> list[Score]:
        """One score a source: the effect of keeping it, by index of the source."""
        scores = self.found[target][METHOD].scores
        return sorted((s for s in scores if s.metric == EFFECT), key=lambda s: s.unit_index)

    def weights(self, target: str) -> Floats:
        """The ranking of the sources [n]; NaN where nothing is known."""
        return self.found[target][METHOD].weights

    def baselines(self, target: str) -> list[tuple[str, ablate.Attribution]]:
        """What methods that ablate nothing say about a target."""
        return [(m, a) for m, a in self.found[target].items() if m in BASELINES]

    def test_masks(self, config: ContextConfig) -> Design:
        """Masks that test the scores of all targets, those asked before left out."""
        known = {r.kept for r in self.study.rows}
        fresh: dict[tuple[bool, ...], None] = {}
        for t in self.study.targets:
            looked = [_tops(m, a.weights, config) for m, a in self.baselines(t.name)]
            for mask in np.concatenate([*_tests(self.weights(t.name), config), *looked]):
                if (kept := tuple(bool(k) for k in mask)) not in known:
                    fresh[kept] = None
        masks = np.array(list(fresh), dtype=np.bool_).reshape(len(fresh), self.study.n)
        return design(TEST, masks, cast(Purpose, TEST))

    def spans(self) -> list[SpanRow]:
        """Where the sources stand in their messages."""
        trace = self.study.trace.trace_id
        return [
            SpanRow(trace, i, s.message, s.start, s.end, s.document, s.paragraph, s.whole)
            for i, s in enumerate(self.study.context.sources)
        ]


def seed_of(study: ContextStudy, seed: int) -> list[int]:
    """Seed of everything random about one study."""
    return [seed, int(study.trace.trace_id, 16)]


def explain(study: ContextStudy, sink: ProbeSink, config: RunConfig) -> Explained:
    """Estimate the effect of every source on every target of a study."""
    out = Explained(study)
    trace, level = study.trace.trace_id, config.context.level
    rows = study.rows_for("design", "full", "empty", "leave_one_out")
    for position, t in enumerate(study.targets):
        measured = sink.measured(study, t, rows)
        every = dict.fromkeys([METHOD, *config.context.methods])
        methods = [m for m in every if m in ablate.METHODS]
        out.found[t.name] = {
            method: ablate.attribute(
                trace,
                study.units,
                measured.design,
                measured.outcome,
                target=t.name,
                tokens=t.end - t.start,
                level=level,
                rng=np.random.default_rng([*seed_of(study, config.seed), position]),
                method=method,
                knowledge=study.knowledge(t.text, config.context.ablations),
            )
            for method in methods
        }
        if cites.METHOD in config.context.methods:
            out.found[t.name][cites.METHOD] = cites.attribution(
                trace, study.units, t.name, study.replies.get(t.name), level
            )
        full, empty = (_sum(study, sink, t, [kept] * study.n) for kept in (True, False))
        out.targets.append(
            TargetRow(
                trace_id=trace,
                target=t.name,
                position=position,
                kind=t.kind,
                text=t.text,
                rather_than=t.other,
                n_tokens=t.end - t.start,
                logprob_full=full,
                logprob_empty=empty,
                label=label(
                    full, empty, t.end - t.start, out.effects(t.name),
                    contrast=t.rather_than is not None,
                ),
                ablations=out.found[t.name][METHOD].n,
            )
        )  # fmt: skip
    return out


def ask_again(found: Explained, sink: ProbeSink, config: RunConfig) -> Design | None:
    """Let the methods that ask again go as far as they can; fills `answers`.

    Returns:
        The masks that they need next; None when all have answered.
    """
    study, c = found.study, config.context
    asker = Asker(study, sink, c, seed_of(study, config.seed))
    answers: list[Answer] = []
    missing: list[Bools] = []
    for method in (m for m in METHODS if m in c.methods):
        for position, (t, row) in enumerate(zip(study.targets, found.targets, strict=True)):
            weights = found.weights(t.name)
            if row.label in ("grounded", "diffuse") and np.isfinite(weights).any():
                said = asker.answer(method, position, t, weights)
                if isinstance(said, Answer):
                    answers.append(said)
                else:
                    missing.append(said)
    found.answers = answers
    return wanted(study.n, missing, QUESTION) if missing else None


def test(found: Explained, sink: ProbeSink, config: RunConfig) -> Explained:
    """Test the scores of a study on masks that did not make them; fills `faithfulness`."""
    study, c = found.study, config.context
    rows: list[FaithfulnessRow] = []

    def add(target: Target, method: str, metric: str, value: float | None, n: int) -> None:
        rows.append(
            FaithfulnessRow(
                study.trace.trace_id, method, target.name, metric, value, n,
                "insufficient" if value is None else "ok", str(ablate.ESTIMATOR_VERSION),
            )
        )  # fmt: skip

    held_rows = study.rows_for("held_out")
    for t, row in zip(study.targets, found.targets, strict=True):
        held = sink.measured(study, t, held_rows)
        y = held.outcome
        n = int(np.isfinite(y).sum())
        for method, a in found.found[t.name].items():
            good = n >= MIN_HELD_OUT and bool(np.isfinite(a.weights).any())
            add(t, method, "lds", lds(a.weights, held.design.masks, y) if good else None, n)
            if a.surrogate is not None:
                add(t, method, "oof_lds", a.surrogate.oof_lds, a.n)
        add(t, METHOD, "parametric", parametric_share(row.logprob_full, row.logprob_empty), 2)
        weights, full = found.weights(t.name), row.logprob_full
        tops, deletion, insertion = _tests(weights, c)
        looked = [(m, _tops(m, a.weights, c)) for m, a in found.baselines(t.name)]
        for method, removed in [(METHOD, tops), *looked]:
            for i, k in enumerate(c.top_k):
                without = _sum(study, sink, t, removed[i]) if len(removed) else None
                drop = None if full is None or without is None else full - without
                add(t, method, f"top_{k}_drop", drop, 2)
        if c.curve_points:
            for name, masks in (("deletion", deletion), ("insertion", insertion)):
                values = [_sum(study, sink, t, m) for m in masks]
                area = curve_area(np.array([np.nan if v is None else v for v in values]))
                add(t, METHOD, name, area, len(values))
    found.faithfulness = rows + [r for a in found.answers for r in a.tests]
    return found


def _tests(weights: Floats, config: ContextConfig) -> tuple[Bools, Bools, Bools]:
    """Masks without the top sources; of the deletion curve; of the insertion curve."""
    none = np.zeros((0, len(weights)), dtype=np.bool_)
    if not np.isfinite(weights).any():  # nothing to test
        return none, none, none
    tops = _tops(METHOD, weights, config)
    if not config.curve_points:
        return tops, none, none
    return (tops, *curve_masks(weights, config.curve_points))


def _tops(method: str, weights: Floats, config: ContextConfig) -> Bools:
    """Masks without the k top sources, one row a k; none where nothing is known.

    Of sources that a model cites, k at most, in the order of the text: what it does not cite stays.
    """
    if not np.isfinite(weights).any():
        return np.zeros((0, len(weights)), dtype=np.bool_)
    tops = top_k_masks(weights, config.top_k)
    return tops | ~(weights > 0) if method == cites.METHOD else tops


def _sum(
    study: ContextStudy, sink: ProbeSink, target: Target, kept: Sequence[bool] | Bools
) -> float | None:
    """Log-probability of a target under one mask; None when it was not measured, or failed."""
    wanted = tuple(bool(k) for k in kept)
    at = next((i for i, r in enumerate(study.rows) if r.kept == wanted), None)
    return None if at is None else sink.total_of(study, target, at)
