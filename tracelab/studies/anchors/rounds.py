"""Rounds of rollouts: plan, run, estimate, until every sentence is decided or the budget is spent.

The driver's side of `methods.allocate`: it turns what a round asks for into work items, and what
came back into the next round. Given the same observations it plans the same rounds, so a run that
is continued walks through its own past in the journal and goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np

from tracelab.core.item import ModelRef, Sampling
from tracelab.core.rows import ItemRow
from tracelab.run.config import ResampleConfig
from tracelab.run.pool import with_range
from tracelab.stats.intervals import Floats
from tracelab.stats.value_curve import Prior, fit, posterior
from tracelab.studies.anchors import allocate, resample
from tracelab.studies.anchors.resample import Ints, Planned, Tally
from tracelab.studies.anchors.subject import Study

GROWTH = 0.5
"""A round spends this share of what all rounds before it spent."""

BATCH = 4
"""Rollouts that a later round adds to a boundary at a time."""

_LEAST_SCALE, _MOST_SCALE = 0.1, 2.0
_FIRST_SHARE = 0.5  # of the budget, for the first round
_FIT_ROUNDS = 6  # each round begins where the last one ended
_FIT_UNITS = 600  # the prior has a dozen parameters: more units only take longer


def count(study: Study, config: ResampleConfig) -> Tally:
    """A study's rollouts, counted as the config says."""
    keep = study.keep if config.certificates and config.recycle else None
    return resample.tally(study.units, study.rollouts, keep, recycle=config.recycle)


def fit_prior(counts: Sequence[Tally], *, rounds: int = 30, start: Prior | None = None) -> Prior:
    """The prior of the run's value curves, from enough of its traces."""
    chosen, units = [], 0
    for c in counts:
        if units < _FIT_UNITS and c.left_n.sum() > 0:
            chosen.append(c.curve())
            units += len(c.keep)
    return fit(chosen, rounds, start=start)


class Rounds:
    """What a run has planned so far, and what it plans next."""

    def __init__(
        self,
        config: ResampleConfig,
        studies: Sequence[Study],
        *,
        model: ModelRef,
        sampling: Sampling,
        seed: int,
    ) -> None:
        """Prepare; plans nothing yet.

        Args:
            config: How much, and when to stop.
            studies: All traces of the run; their `rollouts` grow while it goes on.
            model: Who continues them.
            sampling: How.
            seed: The run's seed.
        """
        self.config = config
        self._studies = studies
        self._asked = [np.zeros(len(s.units) + 1, dtype=np.int64) for s in studies]
        self._costs = [_costs(s) for s in studies]
        self._how = {"model": model, "sampling": sampling, "seed": seed}
        self._prior: Prior | None = None
        self.rounds = 0
        self.units = sum(len(s.units) for s in studies)
        self.decided: int | None = None
        """Sentences whose pooled interval was as narrow as asked at the last look."""
        self.recycled: float | None = None
        """Share of the boundaries' samples then that were started at an earlier boundary."""

    @property
    def asked(self) -> list[Ints]:
        """Rollouts planned so far at each boundary of each study."""
        return self._asked

    def next(self) -> list[Planned]:
        """The items of the next round, asking only for what is new; empty when all is done."""
        if self.rounds == 0:
            more = self._first()
        elif self.config.allocation == "uniform":
            return []
        else:
            more = self._adaptive()
        self.rounds += 1
        return self._items(more)

    def places(self) -> list[ItemRow]:
        """Everything planned so far, as rows of `items`."""
        return [
            ItemRow(p.trace_id, p.item.key, p.boundary, p.start_token, p.item.replicates)
            for s, asked in zip(self._studies, self._asked, strict=True)
            for p in self._plan(s, asked)
        ]

    def _first(self) -> list[Ints]:
        c = self.config
        if c.allocation == "uniform":
            return [np.full(len(a), c.rollouts, dtype=np.int64) for a in self._asked]
        initial = min(c.initial, c.rollouts)
        plans = [
            allocate.first_round(count(s, c), initial=initial, certify_below=c.delta)
            for s in self._studies
        ]
        if c.budget_tokens is not None:
            cost = sum(float(p @ k) for p, k in zip(plans, self._costs, strict=True))
            stride = ceil(cost / (_FIRST_SHARE * c.budget_tokens))
            if stride > 1:  # a coarse grid first; the value curve says where to look closer
                for p in plans:
                    p[np.arange(len(p)) % stride != 0] = 0
        return plans

    def _adaptive(self) -> list[Ints]:
        c = self.config
        spent = self.spent()
        tokens = GROWTH * spent
        if c.budget_tokens is not None:
            tokens = min(tokens, c.budget_tokens - spent)
        if tokens <= 0:
            return []
        # Expected lengths are the trace's own; what rollouts really took corrects them, so that a
        # budget holds also where the model rambles.
        expected = sum(float(a @ k) for a, k in zip(self._asked, self._costs, strict=True))
        tokens *= min(max(expected / max(spent, 1), _LEAST_SCALE), _MOST_SCALE)
        counts = [count(s, c) for s in self._studies]
        prior = self._prior = fit_prior(counts, rounds=_FIT_ROUNDS, start=self._prior)
        state = []
        for tally, asked, cost in zip(counts, self._asked, self._costs, strict=True):
            fitted = posterior(tally.curve(), prior)
            unsure = allocate.undecided(fitted, halfwidth=c.target_halfwidth, level=c.level)
            state.append(allocate.Progress(tally, fitted, asked, cost, unsure))
        self.decided = self.units - sum(int(p.open.sum()) for p in state)
        samples = sum(int(c.n.sum()) for c in counts)
        own = sum(r.outcome.reward is not None for s in self._studies for r in s.rollouts)
        self.recycled = 1 - own / samples if samples else None
        return allocate.next_round(state, tokens=tokens, batch=BATCH, cap=c.rollouts)

    def spent(self) -> int:
        """Generated tokens so far; a rollout that several traces use was paid for once."""
        used = {(r.item_key, r.replicate): r.n_tokens for s in self._studies for r in s.rollouts}
        return sum(used.values())

    def _items(self, more: Sequence[Ints]) -> list[Planned]:
        found = []
        for s, asked, new in zip(self._studies, self._asked, more, strict=False):
            for p in self._plan(s, np.where(new > 0, asked + new, 0)):
                had = int(asked[p.boundary])
                item = with_range(p.item, had, p.item.replicates - had)
                found.append(Planned(p.trace_id, p.boundary, p.start_token, item))
            asked += new
        return found

    def _plan(self, study: Study, asked: Ints) -> list[Planned]:
        return resample.plan(study.tokens, study.units, rollouts=asked.tolist(), **self._how)  # type: ignore[arg-type]


def _costs(study: Study) -> Floats:
    """Tokens that a rollout is expected to generate: what the trace itself wrote from there."""
    size = len(study.tokens.response_ids)
    return np.array(
        [max(1, size - t) for t in resample.boundary_tokens(study.units)], dtype=np.float64
    )
