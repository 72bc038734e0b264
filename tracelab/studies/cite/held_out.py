"""The tests that every study makes of its scores, on masks that did not make them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from tracelab.stats.held_out import curve_area, curve_masks, lds, top_k_masks
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools, Design, Purpose, design
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.grounding import parametric_share
from tracelab.studies.cite.methods.ablate import ESTIMATOR_VERSION
from tracelab.studies.cite.methods.llm_cites import LlmCites
from tracelab.studies.cite.methods.registry import ALWAYS
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.rows import FaithfulnessRow

TEST = "test"
"""Purpose of masks that test scores: without the top sources, and along the curves."""
MIN_HELD_OUT = 8
"""Fewest held-out masks for a rank correlation that says anything."""


def masks_of(work: Ablations, baselines: Sequence[str]) -> Design:
    """Masks that test the rankings of all targets, those asked before left out.

    Args:
        work: A context whose targets are explained.
        baselines: Methods that ablate nothing; the top sources of each are removed, too.
    """
    fresh: dict[bytes, Bools] = {}
    for t in work.case.targets:
        tests = [*_tests(work.weights(t.name, ALWAYS), work.options)]
        tests += [_tops(m, work.weights(t.name, m), work.options) for m in baselines]
        for mask in np.concatenate(tests):
            if not work.known(mask):
                fresh[mask.tobytes()] = mask
    masks = np.array(list(fresh.values()), dtype=np.bool_).reshape(len(fresh), work.n)
    return design(TEST, masks, cast(Purpose, TEST))


def tests_of(work: Ablations, baselines: Sequence[str]) -> list[FaithfulnessRow]:
    """How well the rankings predict the model, once those masks are measured."""
    o = work.options
    rows: list[FaithfulnessRow] = []
    held = work.rows_for("held_out")
    masks = work.design_of(held).masks
    for t, row in zip(work.case.targets, work.targets, strict=True):

        def add(method: str, metric: str, value: float | None, n: int, name: str = t.name) -> None:
            rows.append(
                FaithfulnessRow.of(
                    work.case.trace_id, method, name, metric, value, n, ESTIMATOR_VERSION
                )
            )

        y = work.outcome(t, held)
        n = int(np.isfinite(y).sum())
        for method, a in work.found[t.name].items():
            if a.weights is not None:
                good = n >= MIN_HELD_OUT and bool(np.isfinite(a.weights).any())
                add(method, "lds", lds(a.weights, masks, y) if good else None, n)
            if a.surrogate is not None:
                add(method, "oof_lds", a.surrogate.oof_lds, a.n)
        if row.outcome == "logprob":
            add(ALWAYS, "parametric", parametric_share(row.logprob_full, row.logprob_empty), 2)
        tops, deletion, insertion = _tests(work.weights(t.name, ALWAYS), o)
        looked = [(m, _tops(m, work.weights(t.name, m), o)) for m in baselines]
        for method, removed in [(ALWAYS, tops), *looked]:
            for i, k in enumerate(o.top_k):
                drop = work.drop(t, removed[i]) if len(removed) else None
                add(method, f"top_{k}_drop", drop, 2)
        if o.curve_points:
            for metric, kept in (("deletion", deletion), ("insertion", insertion)):
                values = [work.measured(t, m) for m in kept]
                area = curve_area(np.array([np.nan if v is None else v for v in values]))
                add(ALWAYS, metric, area, len(values))
    return rows


def _tests(weights: Floats, options: CiteOptions) -> tuple[Bools, Bools, Bools]:
    """Masks without the top sources; of the deletion curve; of the insertion curve."""
    none = np.zeros((0, len(weights)), dtype=np.bool_)
    if not np.isfinite(weights).any():  # nothing to test
        return none, none, none
    tops = _tops(ALWAYS, weights, options)
    if not options.curve_points:
        return tops, none, none
    return (tops, *curve_masks(weights, options.curve_points))


def _tops(method: str, weights: Floats, options: CiteOptions) -> Bools:
    """Masks without the k top sources, one row a k; none where nothing is known.

    Of sources that a model cites, k at most, in the order of the text: what it does not cite stays.
    """
    if not np.isfinite(weights).any():
        return np.zeros((0, len(weights)), dtype=np.bool_)
    tops = top_k_masks(weights, options.top_k)
    return tops | ~(weights > 0) if method == LlmCites.name else tops
