"""Context attribution on real language, held to exact effects: all 2^n masks are scored.

Each passage has five sentences, one of which states the answer, so 32 masks are all there are, and
the average effect of every sentence is known. Methods are given the same half of the masks, drawn
at random, and are tested on the other half.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.cite.peer import Peer
from benchmarks.real.work import Passage, RealWorker, Tell, passages
from tracelab.core.flow import Flow
from tracelab.stats.effects import average_effects
from tracelab.stats.held_out import lds
from tracelab.stats.lasso import Floats, context_cite
from tracelab.stats.masks import Bools, Purpose, design
from tracelab.stats.surrogate import fit, spearman
from tracelab.studies.cite.ablations import Ablations
from tracelab.studies.cite.case import ContextCase
from tracelab.studies.cite.methods.at2 import At2
from tracelab.studies.cite.methods.attention import MeanAttention
from tracelab.studies.cite.study import whole

FITTED = 16
"""Masks that methods see; the others test them."""
DRAWN, DRAWS = 20, 8
"""For coverage: masks of an estimate, and fresh estimates a passage."""
LEVEL = 0.9
SAMPLES = 4


@dataclass(slots=True)
class Found:
    """What was found of one passage: by method, its ranking, LDS and the loss without its top."""

    first: dict[str, int] = field(default_factory=dict)
    lds: dict[str, float | None] = field(default_factory=dict)
    drop: dict[str, float] = field(default_factory=dict)


def measure(model: str, count: int, timed: int, sampled: int, tell: Tell) -> dict[str, Any]:
    """All figures.

    Args:
        model: Folder of the model.
        count: Passages, the first ones.
        timed: Of these, how many the context-cite package explains too, by the clock.
        sampled: Of these, for how many answers are sampled under masks as well.
        tell: Gets a line a passage.
    """
    chosen = passages()[:count]
    worker = RealWorker("transformers", model)
    try:
        cases, reasons = worker.cases(p.trace() for p in chosen)
        if reasons:
            raise ValueError(reasons[0])
        works = [Ablations(case, worker.ctx) for case in cases]
        every: list[Floats] = []
        seconds: list[float] = []
        for k, work in enumerate(works):
            began = time.process_time()
            every.append(worker.drive(_all_masks(work, k)))
            seconds.append(time.process_time() - began)
            tell(f"{k + 1} of {len(works)}: {seconds[-1]:.1f} s")
        seen = [worker.look(At2().look(w)) for w in works]
        learned = At2().learn(works, seen)
        attention = [worker.look(MeanAttention().explain(w)) for w in works]
        found, held, exact = [], [], []
        for k, (work, y) in enumerate(zip(works, every, strict=True)):
            masks = work.design_of(range(len(y))).masks
            looked = {
                "attention": attention[k]["response"].weights,
                "at2": learned[k]["response"].weights,
            }
            found.append(_found(work, masks, y, looked, k))
            exact.append(_exact(masks, y))
            held += _held(masks, y, exact[-1], k)
    finally:
        worker.close()
    scored = {
        "passages": len(chosen),
        "sentences": sum(len(p.sentences) for p in chosen),
        "methods": {m: _summary(m, found, chosen) for m in found[0].first},
        "coverage": {"level": LEVEL, "masks": DRAWN, "share": float(np.mean(held)),
                     "intervals": len(held)},
    }  # fmt: skip
    tell(json.dumps(scored))  # what follows takes long, too
    return {
        **scored,
        "speed": _speed(model, chosen[:timed], seconds[:timed], tell) if timed else None,
        "answers": _answers(model, chosen[:sampled], exact, tell) if sampled else None,
    }


def _all_masks(work: Ablations, seed: int) -> Flow[Floats]:
    """Score every mask; the first `FITTED` are a random half, the others test what they say."""
    n = work.n
    masks = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.bool_)
    order = np.random.default_rng([77, seed]).permutation(len(masks))
    purposes: list[Purpose] = ["design" if i < FITTED else "held_out" for i in range(len(masks))]
    rows = work.add(design("all", masks[order], purposes))
    yield from work.ask("all masks", rows)
    return work.outcome(work.case.targets[0], rows)


def _exact(masks: Bools, y: Floats) -> Floats:
    return np.array([y[kept].mean() - y[~kept].mean() for kept in masks.T])


def _found(
    work: Ablations, masks: Bools, y: Floats, looked: dict[str, Floats | None], k: int
) -> Found:
    target = work.case.targets[0]
    a, b = slice(0, FITTED), slice(FITTED, None)
    tokens = target.end - target.start
    whole_, none = np.ones(work.n, np.bool_), np.eye(work.n, dtype=np.bool_)
    ranked: dict[str, Floats] = {
        "ablate": fit(masks[a], y[a], rng=np.random.default_rng([78, k])).weights,
        "context-cite": context_cite(masks[a], y[a], tokens)[0],
        "leave-one-out": _one_out(work, none),
        **{m: w for m, w in looked.items() if w is not None},
        "exact effects": _exact(masks, y),
    }
    out = Found()
    for method, weights in ranked.items():
        top = int(np.argmax(weights))
        out.first[method] = top
        out.lds[method] = lds(weights, masks[b], y[b])
        full, without = (work.logprob(target, m) for m in (whole_, ~none[top]))
        assert full is not None and without is not None
        out.drop[method] = full - without
    return out


def _one_out(work: Ablations, none: Bools) -> Floats:
    target = work.case.targets[0]
    rows = [work.row_of(~m) for m in none]
    full = work.outcome(target, [work.row_of(np.ones(work.n, np.bool_))])
    return np.asarray(full - work.outcome(target, rows), dtype=np.float64)


def _held(masks: Bools, y: Floats, exact: Floats, k: int) -> list[bool]:
    """Whether intervals from some of the masks hold the exact effects."""
    held: list[bool] = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([79, k, draw])
        rows = rng.choice(len(y), DRAWN, replace=False)
        s = fit(masks[rows], y[rows], rng=rng)
        e = average_effects(masks[rows], y[rows], s, level=LEVEL)
        held += [bool(x) for x in (e.lo <= exact) & (exact <= e.hi)]
    return held


def _summary(method: str, found: Sequence[Found], chosen: Sequence[Passage]) -> dict[str, Any]:
    right = [f.first[method] == p.support for f, p in zip(found, chosen, strict=True)]
    scores = [v for f in found if (v := f.lds[method]) is not None]
    drops = [f.drop[method] for f in found]
    return {
        "support_first": float(np.mean(right)),
        "lds": float(np.mean(scores)),
        "lds_se": float(np.std(scores, ddof=1) / np.sqrt(len(scores))) if len(scores) > 1 else None,
        "top_1_drop": float(np.mean(drops)),
    }


def _speed(
    model: str, chosen: Sequence[Passage], ours: Sequence[float], tell: Tell
) -> dict[str, Any]:
    """Seconds of processor time a passage, for as many masks: tracelab's, and the package's own.

    Both are long runs of one process on a machine that others use, too, so not by the clock.
    """
    peer = Peer(model)
    theirs = []
    for p in chosen:
        began = time.process_time()
        peer.attribute(p.case(), 2 ** len(p.sentences))
        theirs.append(time.process_time() - began)
        tell(f"context-cite: {theirs[-1]:.1f} s")
    return {
        "passages": len(chosen), "cpu_seconds": float(np.median(ours)),
        "cpu_seconds_context_cite": float(np.median(theirs)),
        "speedup": float(np.median(np.array(theirs) / np.array(ours))),
    }  # fmt: skip


def _answers(
    model: str, chosen: Sequence[Passage], exact: Sequence[NDArray[np.float64]], tell: Tell
) -> dict[str, Any]:
    """Effects on what is answered beside effects on log-probabilities."""
    worker = RealWorker(
        "transformers", model, outcome="answer", compare="similarity", similarity="lexical",
        samples=SAMPLES, ablations=FITTED, max_tokens=16,
    )  # fmt: skip
    import torch

    torch.set_num_threads(1)  # a second gains little where few answers are written at once
    try:
        cases, _ = worker.cases(p.trace() for p in chosen)
        correlations, first = [], []
        for k, case in enumerate(cases):
            effects = _sampled(worker, case)
            correlations.append(spearman(effects, exact[k]))
            first.append(int(np.argmax(effects)) == chosen[k].support)
            tell(f"answers {k + 1} of {len(cases)}: {correlations[-1]}")
    finally:
        worker.close()
    known = [c for c in correlations if c is not None]
    return {
        "passages": len(cases), "masks": FITTED, "samples": SAMPLES,
        "rank_correlation": float(np.mean(known)), "support_first": float(np.mean(first)),
    }  # fmt: skip


def _sampled(worker: RealWorker, case: ContextCase) -> Floats:
    from tracelab.studies.cite.answers.work import SampledAblations

    work = SampledAblations(case, worker.ctx)
    found = worker.drive(whole(work))
    effects = sorted((s for s in found.scores if s.metric == "effect"), key=lambda s: s.unit_index)
    return np.array([s.value for s in effects], dtype=np.float64)
