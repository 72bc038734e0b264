"""Rounds of rollouts on the scripted engine: budgets, stopping, and honest intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from tests.helpers import scripted_trace
from tests.studies.anchors.anchors import prob
from tests.studies.context import Answering, World, scripted, world
from tracelab.core.flow import drive
from tracelab.core.item import Item
from tracelab.core.rows import ItemRow
from tracelab.engines.scripted import Script
from tracelab.studies.anchors import pooled, rounds
from tracelab.studies.anchors.case import Reasoning, begin
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.grouping import boundary_tokens
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.tally import count


@dataclass
class Played:
    """Rounds at their end."""

    cases: list[Reasoning]
    world: World
    answering: Answering

    @property
    def asked(self) -> list[np.ndarray]:
        """Rollouts asked for at each boundary of each trace."""
        found = [np.zeros(len(c.units) + 1, dtype=int) for c in self.cases]
        index = {c.trace_id: k for k, c in enumerate(self.cases)}
        for row in self.world.rows:
            if isinstance(row, ItemRow):
                found[index[row.trace_id]][row.start_boundary] = row.replicates
        return found

    def spent(self) -> int:
        """Tokens that were generated, a rollout that several traces use counted once."""
        paid = {(r.item_key, r.replicate): r.n_tokens for c in self.cases for r in c.rollouts}
        return sum(paid.values())


def cases_of(script: Script, size: int, w: World, *, exact: bool = True) -> list[Reasoning]:
    found = []
    for seed in range(size):
        tokens = w.ctx.tokenize(scripted_trace(script, seed))
        case = begin(tokens, "reasoning-v1", max_units=100, context_length=4096)
        ids = tokens.response_ids
        if exact:
            case.keep = [prob(script, ids, u.token_start, u.token_end) for u in case.units]
        found.append(case)
    return found


def play(script: Script, size: int, options: AnchorsOptions, *, exact: bool = True) -> Played:
    """Run rounds to their end."""
    w = world(options, script=script)
    cases = cases_of(script, size, w, exact=exact)
    answering = Answering(scripted(script))
    drive(rounds.sample(Cohort(cases, w.ctx)), answering)
    return Played(cases, w, answering)


def test_it_stops_when_every_sentence_is_decided(script: Script) -> None:
    options = AnchorsOptions(target_halfwidth=0.1)
    played = play(script, 6, options)
    counts = [count(c, options) for c in played.cases]
    prior = pooled.fit_prior(counts)
    for case, c, asked in zip(played.cases, counts, played.asked, strict=True):
        for score in pooled.estimate("t", case.units, c, prior, delta=0.1):
            if score.metric == "delta_value" and score.status == "ok":
                wide = (score.hi - score.lo) / 2 > 0.115  # the prior moved since the last look
                assert not wide or asked.max() == options.rollouts
    assert all(c.n.max() < 400 for c in counts)


def test_it_says_how_many_are_decided_and_what_recycling_saved(script: Script) -> None:
    played = play(script, 3, AnchorsOptions(target_halfwidth=0.1))
    units = sum(len(c.units) for c in played.cases)
    decided, rest = played.world.told[-1].split("/")
    assert units * 0.9 <= int(decided) <= units
    uses = sum(
        r.start_token <= t <= r.diverge_token
        for c in played.cases for r in c.rollouts for t in boundary_tokens(c.units)
    )  # fmt: skip
    started = sum(len(c.rollouts) for c in played.cases)
    share = 1 - started / uses
    assert share > 0.2
    assert rest == f"{units} sentences decided, {share:.0%} of samples recycled"


@pytest.mark.parametrize("budget", [1_500, 3_000, 6_000])
def test_a_budget_is_spent_and_kept(script: Script, budget: int) -> None:
    played = play(script, 4, AnchorsOptions(target_halfwidth=0.01, budget_tokens=budget))
    assert 0.8 * budget < played.spent() < 1.1 * budget


def test_a_budget_goes_where_least_is_known(script: Script) -> None:
    """A trace that is decided after the first round leaves its part to the others."""
    options = AnchorsOptions(target_halfwidth=0.12, budget_tokens=4_000, initial=8)
    played = play(script, 5, options)
    more = [int((a - 8).clip(0).sum()) for a in played.asked]
    w = world(options, script=script)
    fresh = Cohort(cases_of(script, 5, w), w.ctx)
    traces = [rounds.Sampled(c, fresh) for c in fresh.cases]
    for trace, case in zip(traces, played.cases, strict=True):
        trace.case.rollouts += [r for r in case.rollouts if r.replicate < 8]
        trace.case.asked += 8
    prior = pooled.fit_prior([count(t.case, options) for t in traces])
    shares = rounds.divided(traces, prior, fresh)
    open_units = [t.undecided for t in traces]
    assert min(open_units) < max(open_units)
    assert all(s == 0 for s, n in zip(shares, open_units, strict=True) if n == 0)
    assert sum(shares) <= options.budget_tokens - played_first(played, 8) + 1
    assert sum(more) > 0


def played_first(played: Played, n: int) -> int:
    """Tokens of each boundary's first `n` rollouts."""
    first = {
        (r.item_key, r.replicate): r.n_tokens
        for c in played.cases
        for r in c.rollouts
        if r.replicate < n
    }
    return sum(first.values())


def test_a_budget_too_small_for_a_first_round_looks_at_every_kth_boundary(script: Script) -> None:
    w = world(AnchorsOptions(budget_tokens=1_000), script=script)
    cases = cases_of(script, 4, w)
    first = rounds.first_plans(Cohort(cases, w.ctx))
    looked = sum(int((p > 0).sum()) for p in first)
    assert 0 < looked < sum(len(c.units) + 1 for c in cases) / 2
    assert any(p[1:].any() for p in first)


def test_rounds_ask_for_each_replicate_once_and_repeat_themselves(script: Script) -> None:
    asked = []
    for _ in range(2):
        played = play(script, 3, AnchorsOptions(target_halfwidth=0.15))
        for c in played.cases:
            seen = [(r.item_key, r.replicate) for r in c.rollouts]
            assert len(seen) == len(set(seen))
        once = [(i.key, k) for i in generations(played.answering.asked) for k in i.replicate_range]
        assert len(once) == len(set(once))
        asked.append(once)
    assert asked[0] == asked[1]


def generations(items: Sequence[object]) -> list[Item]:
    return [i for i in items if isinstance(i, Item) and i.kind == "generate"]


def test_uniform_is_the_published_recipe(script: Script) -> None:
    played = play(script, 2, AnchorsOptions(allocation="uniform", rollouts=5))
    assert all((a == 5).all() for a in played.asked)
    items = generations(played.answering.asked)
    assert sum(i.replicates for i in items) == sum(len(c.rollouts) for c in played.cases)


@pytest.mark.long
@pytest.mark.parametrize("exact", [True, False], ids=["keep known", "keep estimated"])
def test_intervals_cover_although_sampling_looked_at_them(script: Script, exact: bool) -> None:
    """Stopping on narrow intervals must not make them too narrow."""
    options = AnchorsOptions(target_halfwidth=0.12, rollouts=60)
    played = play(script, 40, options, exact=exact)
    counts = [count(c, options) for c in played.cases]
    prior = pooled.fit_prior(counts)
    hits = []
    for case, c in zip(played.cases, counts, strict=True):
        ids = case.tokens.response_ids
        truth = [script.answers(ids[:t]).get("7", 0.0) for t in boundary_tokens(case.units)]
        for score in pooled.estimate("t", case.units, c, prior, delta=0.1):
            if score.metric == "delta_value" and score.status == "ok":
                true = truth[score.unit_index + 1] - truth[score.unit_index]
                hits.append(score.lo - 1e-9 <= true <= score.hi + 1e-9)
    assert len(hits) > 100
    assert np.mean(hits) >= 0.92
