"""Rounds of rollouts on the scripted engine: budgets, stopping, and honest intervals."""

from __future__ import annotations

import numpy as np
import pytest
from tracelab.studies.anchors.subject import Study

from tests.helpers import scripted_trace, sentences
from tests.studies.anchors.anchors import prob
from tracelab.core.item import ModelRef, Outcome, Rollout, Sampling, diverge_token
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.run.config import ResampleConfig
from tracelab.run.pool import LocalPool
from tracelab.studies.anchors import pooled
from tracelab.studies.anchors.grouping import boundary_tokens
from tracelab.studies.anchors.rounds import Rounds, count, fit_prior

REF = ModelRef("scripted", "planted-1", "float64")


def studies_of(script: Script, size: int, *, exact: bool = True) -> list[Study]:
    found = []
    for seed in range(size):
        tokens, units = sentences(ScriptTokenizer(script), scripted_trace(script, seed))
        ids = tokens.response_ids
        keep = [prob(script, ids, u.token_start, u.token_end) for u in units]
        found.append(Study(tokens, units, "reasoning-v1", keep if exact else None))
    return found


def play(pool: LocalPool, studies: list[Study], config: ResampleConfig) -> tuple[Rounds, int]:
    """Run rounds to their end; returns them and the tokens they cost."""
    plan = Rounds(config, studies, model=REF, sampling=Sampling(), seed=1)
    by_trace = {s.trace.trace_id: s for s in studies}
    spent = 0
    while planned := plan.next():
        for p in planned:
            study = by_trace[p.trace_id]
            kept = study.tokens.starts[p.start_token : p.start_token + 1] or (None,)
            head = study.trace.response[: kept[0]]
            for batch in pool.run([p.item]):
                for o in batch:
                    spent += len(o.token_ids)
                    right = "{7}" in head + o.text
                    leaves = diverge_token(p.start_token, o.token_ids, study.tokens.response_ids)
                    study.rollouts.append(
                        Rollout(
                            o.key, o.replicate, p.boundary, p.start_token, leaves,
                            Outcome("7" if right else "3", float(right), "graded"),
                            len(o.token_ids),
                        )
                    )  # fmt: skip
        assert plan.rounds < 60
    return plan, spent


@pytest.fixture
def pool(script_spec) -> LocalPool:
    return LocalPool(script_spec())


def test_it_stops_when_every_sentence_is_decided(pool: LocalPool, script: Script) -> None:
    studies = studies_of(script, 6)
    config = ResampleConfig(target_halfwidth=0.1)
    plan, _ = play(pool, studies, config)
    counts = [count(s, config) for s in studies]
    prior = fit_prior(counts)
    capped = 0
    for s, c, asked in zip(studies, counts, plan.asked, strict=True):
        for score in pooled.estimate("t", s.units, c, prior, delta=0.1):
            if score.metric == "delta_value" and score.status == "ok":
                wide = (score.hi - score.lo) / 2 > 0.115  # the prior moved since the last look
                capped += wide
                assert not wide or asked.max() == config.rollouts
    assert capped == 0
    assert all(c.n.max() < 400 for c in counts)


def test_it_says_how_many_are_decided_and_what_recycling_saved(
    pool: LocalPool, script: Script
) -> None:
    studies = studies_of(script, 3)
    config = ResampleConfig(target_halfwidth=0.1)
    plan, _ = play(pool, studies, config)
    assert plan.units == sum(len(s.units) for s in studies)
    assert plan.decided is not None and plan.units * 0.9 <= plan.decided <= plan.units
    uses = sum(
        r.start_token <= t <= r.diverge_token
        for s in studies for r in s.rollouts for t in boundary_tokens(s.units)
    )  # fmt: skip
    started = sum(len(s.rollouts) for s in studies)
    assert plan.recycled == pytest.approx(1 - started / uses)
    assert plan.recycled > 0.2


def test_a_budget_is_kept_to_within_one_batch(pool: LocalPool, script: Script) -> None:
    studies = studies_of(script, 4)
    config = ResampleConfig(target_halfwidth=0.01, budget_tokens=3_000)
    _, spent = play(pool, studies, config)
    assert 2_000 < spent < 3_000 * 1.2


def test_a_budget_too_small_for_a_first_round_looks_at_every_kth_boundary(
    pool: LocalPool, script: Script
) -> None:
    studies = studies_of(script, 4)
    plan = Rounds(
        ResampleConfig(budget_tokens=1_000), studies, model=REF, sampling=Sampling(), seed=1
    )
    first = plan.next()
    assert 0 < len(first) < sum(len(s.units) + 1 for s in studies) / 2
    assert any(p.boundary for p in first)


def test_rounds_ask_for_each_replicate_once_and_repeat_themselves(
    pool: LocalPool, script: Script
) -> None:
    config = ResampleConfig(target_halfwidth=0.15)
    plans = []
    for _ in range(2):
        studies = studies_of(script, 3)
        plan, _ = play(pool, studies, config)
        for s in studies:
            seen = [(r.item_key, r.replicate) for r in s.rollouts]
            assert len(seen) == len(set(seen))
        plans.append([(p.trace_id, p.start_boundary, p.replicates) for p in plan.places()])
    assert plans[0] == plans[1]


def test_uniform_is_the_published_recipe(pool: LocalPool, script: Script) -> None:
    studies = studies_of(script, 2)
    plan, _ = play(pool, studies, ResampleConfig(allocation="uniform", rollouts=5))
    assert plan.rounds == 1
    assert all((a == 5).all() for a in plan.asked)


@pytest.mark.parametrize("exact", [True, False], ids=["keep known", "keep estimated"])
def test_intervals_cover_although_sampling_looked_at_them(
    pool: LocalPool, script: Script, exact: bool
) -> None:
    """Stopping on narrow intervals must not make them too narrow."""
    config = ResampleConfig(target_halfwidth=0.12, rollouts=60)
    studies = studies_of(script, 40, exact=exact)
    play(pool, studies, config)
    counts = [count(s, config) for s in studies]
    prior = fit_prior(counts)
    hits = []
    for s, c in zip(studies, counts, strict=True):
        ids = s.tokens.response_ids
        truth = [script.answers(ids[:t]).get("7", 0.0) for t in boundary_tokens(s.units)]
        for score in pooled.estimate("t", s.units, c, prior, delta=0.1):
            if score.metric == "delta_value" and score.status == "ok":
                true = truth[score.unit_index + 1] - truth[score.unit_index]
                hits.append(score.lo - 1e-9 <= true <= score.hi + 1e-9)
    assert len(hits) > 100
    assert np.mean(hits) >= 0.92
