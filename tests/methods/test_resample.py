"""Resampling importance against the closed-form truth of the scripted engine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import scripted_trace, sentences
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.methods import resample
from tracelab.runtime.pool import LocalPool
from tracelab.work import ModelRef, Outcome, Rollout, Sampling, diverge_token

REF = ModelRef("scripted", "planted-1", "float64")


def measured(script: Script, spec, seed: int, n: int) -> tuple[list, list, list]:
    """Plan, run and grade one trace; returns scores, units and exact values by boundary."""
    tokenizer = ScriptTokenizer(script)
    trace = scripted_trace(script, seed)
    tokens, units = sentences(tokenizer, trace)
    planned = resample.plan(tokens, units, model=REF, sampling=Sampling(), rollouts=n, seed=seed)
    pool = LocalPool(spec)
    rollouts = []
    at = {p.item.key: p for p in planned}
    for batch in pool.run([p.item for p in planned]):
        for o in batch:
            p = at[o.key]
            kept = tokenizer.decode(tokens.response_ids[: p.start_token])
            answer = "7" if "{7}" in kept + o.text else "3"
            rollouts.append(
                Rollout(
                    o.key,
                    o.replicate,
                    p.boundary,
                    p.start_token,
                    diverge_token(p.start_token, o.token_ids, tokens.response_ids),
                    Outcome(answer, float(answer == "7"), "graded"),
                    len(o.token_ids),
                )  # fmt: skip
            )
    truth = [
        script.answers(tokens.response_ids[:t]).get("7", 0.0)
        for t in resample.boundary_tokens(units)
    ]
    return resample.estimate(trace.trace_id, units, rollouts), units, truth


def test_values_and_differences_match_the_closed_form(script, script_spec) -> None:
    scores, units, truth = measured(script, script_spec(), seed=3, n=1500)
    for s in scores:
        exact = truth[s.unit_index] if s.metric == "value" else (
            truth[s.unit_index + 1] - truth[s.unit_index]
        )  # fmt: skip
        assert s.status == "ok"
        assert s.value == pytest.approx(exact, abs=5 * np.sqrt(0.5 / 1500))


def test_intervals_cover_the_closed_form(script, script_spec) -> None:
    """Nominal 95 % at the small n a user would run; 120 traces x 8 differences."""
    hits = []
    for seed in range(120):
        scores, _, truth = measured(script, script_spec(), seed=seed, n=12)
        for s in scores:
            if s.metric == "delta_value":
                exact = truth[s.unit_index + 1] - truth[s.unit_index]
                hits.append(s.lo <= exact <= s.hi)
    assert 0.93 <= np.mean(hits) <= 1.0


def test_sign_positive_means_the_sentence_raised_the_reward(script, script_spec) -> None:
    for seed in range(30):
        scores, units, _ = measured(script, script_spec(), seed=seed, n=60)
        plan = next(u for u in units if "prices" in u.text)
        score = next(s for s in scores if s.metric == "delta_value" and s.unit_index == plan.index)
        assert (score.value > 0) == ("add" in plan.text)


def rollout(boundary_token: int, reward: float | None, k: int = 0) -> Rollout:
    status = "ungraded" if reward is None else "graded"
    outcome = Outcome(None if reward is None else "7", reward, status)
    return Rollout(f"i{boundary_token}", k, 0, boundary_token, boundary_token, outcome, 1)


def test_too_few_or_ungraded_rollouts_are_insufficient_never_zero(script) -> None:
    _, units = sentences(ScriptTokenizer(script), scripted_trace(script))
    cut = resample.boundary_tokens(units)
    rollouts = [rollout(cut[0], 0.0, k) for k in range(20)]
    rollouts += [rollout(cut[1], None, k) for k in range(20)]
    scores = resample.estimate("t", units, rollouts)
    by = {(s.metric, s.unit_index): s for s in scores}
    assert by["value", 0].value == 0.0
    assert by["value", 0].status == "ok"
    for at in [("value", 1), ("delta_value", 0), ("delta_value", 1)]:
        assert by[at].status == "insufficient"
        assert (by[at].value, by[at].lo, by[at].hi) == (None, None, None)
    assert by["value", 1].extra["ungraded"] == 20


def test_a_sentence_inside_a_token_is_not_measured_as_zero(script) -> None:
    """Two boundaries on one token share all rollouts; their difference says nothing."""
    import dataclasses

    _, units = sentences(ScriptTokenizer(script), scripted_trace(script))
    a, b = units[0], units[1]
    squeezed = [a, dataclasses.replace(b, token_start=b.token_end), *units[2:]]
    squeezed[0] = dataclasses.replace(a, token_end=b.token_end)
    cut = resample.boundary_tokens(squeezed)
    rollouts = [rollout(t, 1.0, k) for t in set(cut) for k in range(10)]
    by = {(s.metric, s.unit_index): s for s in resample.estimate("t", squeezed, rollouts)}
    assert by["delta_value", 1].status == "insufficient"
    assert by["delta_value", 1].value is None
    assert by["value", 1].n == by["value", 2].n == 10


def test_plan_prefixes_are_exact_and_ordered(script) -> None:
    tokens, units = sentences(ScriptTokenizer(script), scripted_trace(script))
    planned = resample.plan(tokens, units, model=REF, sampling=Sampling(), rollouts=5, seed=0)
    assert len(planned) == len(units) + 1
    assert [p.boundary for p in planned] == list(range(len(units) + 1))
    whole = tokens.prompt_ids + tokens.response_ids
    for p in planned:
        assert p.item.prefix_ids == whole[: len(tokens.prompt_ids) + p.start_token]
    assert len({p.item.key for p in planned}) == len(planned)
