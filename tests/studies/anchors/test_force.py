"""Forced answers: what is asked, and estimates against the closed form of a small process."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.helpers import scripted_trace, sentences
from tests.studies.anchors.chain import ANSWERS, SLOTS, STATES, Chain
from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.item import ModelRef, Outcome, Rollout, Sampling
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.stats.divergence import tv
from tracelab.studies.anchors import force, resample

REF = ModelRef("scripted", "planted-1", "float64")
SUFFIX = (60, 47, 116)


def forced(chain: Chain, answers: np.ndarray, rng: np.random.Generator, n: int) -> list[Rollout]:
    """`n` forced answers from every boundary; `answers` [state, answer] is what it would say."""
    out = []
    for b in range(SLOTS + 1):
        for r, a in enumerate(rng.choice(ANSWERS, n, p=answers[chain.state(b)])):
            outcome = Outcome(str(a), float(a == 0), "graded")
            # What they wrote follows the suffix: a diverge token that lies further on is chance.
            out.append(Rollout(f"f{b}", r, b, 2 * b, 2 * b + 3, outcome, 4))
    return out


def scores(chain: Chain, rollouts: list[Rollout], seed: int = 0) -> dict[tuple[str, int], Score]:
    found = force.estimate("t", chain.units, rollouts, rng=np.random.default_rng(seed))
    return {(s.metric, s.unit_index): s for s in found}


def process(seed: int) -> tuple[Chain, np.ndarray, np.random.Generator]:
    rng = np.random.default_rng(seed)
    return Chain.random(rng), rng.dirichlet(np.full(ANSWERS, 0.6), STATES), rng


def test_estimates_converge_to_the_closed_form() -> None:
    chain, answers, rng = process(0)
    by = scores(chain, forced(chain, answers, rng, 4000))
    value = [answers[chain.state(b)] for b in range(SLOTS + 1)]
    for b in range(SLOTS + 1):
        assert by["value", b].value == pytest.approx(value[b][0], abs=0.04)
        assert by["value", b].unit_kind == "boundary"
    for i in range(SLOTS):
        assert by["delta_value", i].value == pytest.approx(value[i + 1][0] - value[i][0], abs=0.06)
        assert by["tv", i].value == pytest.approx(float(tv(value[i], value[i + 1])), abs=0.06)
    assert {s.method for s in by.values()} == {"force"}


@pytest.mark.slow
def test_intervals_cover() -> None:
    """Nominal 95 %, 12 forced answers a boundary."""
    hits: dict[str, list[bool]] = {"value": [], "delta_value": [], "tv": []}
    for seed in range(100):
        chain, answers, rng = process(seed)
        by = scores(chain, forced(chain, answers, rng, 12), seed)
        value = [answers[chain.state(b)] for b in range(SLOTS + 1)]
        for (metric, i), s in by.items():
            exact = {
                "value": value[i][0],
                "delta_value": value[min(i + 1, SLOTS)][0] - value[i][0],
                "tv": float(tv(value[i], value[min(i + 1, SLOTS)])),
            }[metric]
            hits[metric].append(s.lo - 1e-9 <= exact <= s.hi + 1e-9)
    assert 0.93 < np.mean(hits["value"]) < 0.99
    assert min(np.mean(hits["delta_value"]), np.mean(hits["tv"])) > 0.93


def test_too_few_is_insufficient_never_0() -> None:
    chain, answers, rng = process(1)
    rollouts = [r for r in forced(chain, answers, rng, 10) if r.boundary != 2]
    by = scores(chain, rollouts)
    missing = [by["value", 2], by["delta_value", 1], by["delta_value", 2], by["tv", 1]]
    assert {s.status for s in missing} == {"insufficient"}
    assert {(s.value, s.lo, s.hi) for s in missing} == {(None, None, None)}
    assert by["delta_value", 0].status == by["tv", 0].status == "ok"
    assert force.estimate("t", [], [], rng=rng) == []


def test_a_sentence_inside_a_token_is_not_measured() -> None:
    chain, answers, rng = process(1)
    units = chain.units
    units[2] = dataclasses.replace(units[2], token_start=units[2].token_end)
    units[1] = dataclasses.replace(units[1], token_end=units[2].token_end)
    rollouts = [r for r in forced(chain, answers, rng, 10) if r.boundary != 2]
    found = force.estimate("t", units, rollouts, rng=rng)
    at = {(s.metric, s.unit_index): s.status for s in found}
    assert at["delta_value", 2] == at["tv", 2] == "insufficient"
    assert at["value", 2] == at["delta_value", 1] == "ok"


def test_plan_appends_the_suffix_at_every_boundary(script: Script) -> None:
    tokens, units = sentences(ScriptTokenizer(script), scripted_trace(script))
    long = Sampling(temperature=0.6, top_p=0.95, max_tokens=500)
    planned = force.plan(
        tokens, units, model=REF, sampling=long, suffix_ids=SUFFIX, rollouts=5, seed=0
    )  # fmt: skip
    plain = resample.plan(tokens, units, model=REF, sampling=long, rollouts=5, seed=0)
    assert len(planned) == len(units) + 1
    whole = tokens.prompt_ids + tokens.response_ids
    for p in planned:
        assert p.item.prefix_ids == whole[: len(tokens.prompt_ids) + p.start_token] + SUFFIX
        assert p.item.sampling == Sampling(temperature=0.6, top_p=0.95, max_tokens=force.MAX_TOKENS)
        assert p.item.replicates == 5
    keys = {p.item.key for p in planned}
    assert len(keys) == len(planned)
    assert not keys & {p.item.key for p in plain}


def test_plan_refuses_what_cannot_force_an_answer(script: Script) -> None:
    tokens, units = sentences(ScriptTokenizer(script), scripted_trace(script))
    with pytest.raises(PlanError, match="suffix"):
        force.plan(tokens, units, model=REF, sampling=Sampling(), suffix_ids=(), rollouts=5, seed=0)
