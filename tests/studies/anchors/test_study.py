"""The whole study on the scripted engine, driven without a house around it."""

from __future__ import annotations

import dataclasses
import random
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.helpers import scripted_trace
from tests.studies.context import Answering, World, drive_shuffled, scripted, world
from tracelab.core.episode import Episode, Step
from tracelab.core.errors import PlanError
from tracelab.core.finding import Findings
from tracelab.core.flow import drive
from tracelab.core.item import Call, Item, Observation, Sampling
from tracelab.core.look import AttentionMaps, Suppressed
from tracelab.core.rows import ItemRow, RolloutRow
from tracelab.core.study import STUDIES
from tracelab.core.trace import Trace, Turn
from tracelab.engines.scripted import Script
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.methods import METHODS
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.study import Anchors

SUFFIX = " So the bill is \\boxed{"
EVERY = ["resample", "counterfactual", "links", "force", "attend", "suppress", "thought-anchors"]


def options(**given: Any) -> AnchorsOptions:
    return AnchorsOptions(**{"similarity": "lexical", "force_suffix": SUFFIX, **given})


def seen(call: Call) -> Observation:
    """Attention and suppression of a made-up model of two layers and three heads."""
    units = call.content["units"]
    rng = np.random.default_rng(len(call.content["response_ids"]))
    if call.content["what"] == "attention":
        vertical = rng.random((2, 3, len(units)))
        vertical[..., -4:] = np.nan
        value = AttentionMaps(vertical, np.tril(rng.random((len(units), len(units))))).value()
    else:
        size = len(units), len(call.content["response_ids"])
        kl, drop = (rng.random(size).astype(np.float32) for _ in range(2))
        value = Suppressed(tuple(range(len(units))), kl, drop).value()
    return Observation.of(call.key, 0, value)


def cases_of(traces: Sequence[Trace], w: World) -> list[Reasoning]:
    return [case for trace in traces for case in Anchors().cases(trace, w.ctx)]


def study(
    traces: Sequence[Trace],
    chosen: AnchorsOptions,
    script: Script | None = None,
    *,
    order: random.Random | None = None,
    **more: Any,
) -> tuple[Findings, World, Answering]:
    w = world(chosen, script=script, **more)
    answering = Answering(scripted(script), call=seen)
    flow = Anchors().run(cases_of(traces, w), w.ctx)
    found = drive(flow, answering) if order is None else drive_shuffled(flow, answering, order)
    return found, w, answering


def again(script: Script, trace: Trace) -> Trace:
    """Another response to the same question."""
    others = (scripted_trace(script, k) for k in range(50, 99))
    other = next(t for t in others if t.response != trace.response)
    return dataclasses.replace(other, turns=(trace.turns[0], other.turns[1]), name="again")


def known(found: Findings, w: World) -> tuple[Any, ...]:
    """All that a run came to, to the last bit; repr tells NaN and -0.0 apart."""
    return (
        [repr(s) for s in found.scores],
        [repr(k) for k in found.links],
        (found.attempted, found.failed),
        Counter(repr(r) for r in w.rows),
    )


def test_every_method_reports_what_it_declared_about_every_sentence(script: Script) -> None:
    traces = [scripted_trace(script, k) for k in range(3)]
    chosen = options(methods=EVERY, allocation="uniform", rollouts=6)
    found, w, answering = study(traces, chosen, script)
    metrics = {m.name: m for m in Anchors.metrics}
    for s in [*found.scores, *found.links]:
        declared = metrics[s.metric]
        for number in (s.value, s.lo, s.hi):
            if number is not None:
                assert declared.lo is None or number >= declared.lo - 1e-9
                assert declared.hi is None or number <= declared.hi + 1e-9
    scored = {s.method for s in found.scores} | {k.method for k in found.links}
    assert scored == {*EVERY, "certify", "resample-pooled"} - {"links"}
    later = [s.status for s in found.scores if s.metric == "later_kl"]
    assert later and set(later) == {"ok"}
    keys = [(s.trace_id, s.unit_kind, s.unit_index, s.method, s.metric) for s in found.scores]
    assert len(keys) == len(set(keys))
    asked = Counter(i.kind for i in answering.asked)
    assert asked["score"] == 3 and asked["look"] == 6
    assert found.attempted == sum(isinstance(r, RolloutRow) for r in w.rows)
    assert found.failed == 0


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(
        [
            {"target_halfwidth": 0.12},
            {"target_halfwidth": 0.02, "budget_tokens": 2_500},
            {"allocation": "uniform", "rollouts": 5, "methods": EVERY},
            {"certificates": False, "target_halfwidth": 0.2, "rollouts": 12},
        ]
    ),
)
def test_the_order_of_arrival_changes_nothing(seed: int, given: dict[str, Any]) -> None:
    script = Script.planted()
    traces = [scripted_trace(script, k) for k in range(3)]
    # A second response to the same question: its first boundary is the other's too.
    traces.append(again(script, traces[0]))
    chosen = options(**given)
    plain = known(*study(traces, chosen)[:2])
    shuffled = known(*study(traces, chosen, order=random.Random(seed))[:2])
    assert plain == shuffled


def test_rewards_that_are_no_whole_numbers_are_added_in_one_order() -> None:
    """Sums of tenths depend on their order; a value must not."""

    class Tenths:
        evidence = "executed"

        def grade_many(self, requests: Sequence[Any]) -> list[Any]:
            from tracelab.core.item import Outcome

            return [Outcome("a", len(r.response) % 11 / 10, "graded") for r in requests]

        def own_answer(self, trace: Trace) -> str | None:
            return "a"

        def reward_kind(self, reference: str | None, own_answer: str | None) -> str:
            return "outcome"

    script = Script.random(np.random.default_rng(3))
    traces = [scripted_trace(script, k) for k in range(2)]
    chosen = options(target_halfwidth=0.1, rollouts=20)
    runs = [
        known(*study(traces, chosen, script, order=order, grading=Tenths())[:2])
        for order in (None, random.Random(1), random.Random(2))
    ]
    assert runs[0] == runs[1] == runs[2]


def test_a_rollout_of_two_traces_is_asked_once_and_told_to_both(script: Script) -> None:
    first = scripted_trace(script, 0)
    chosen = options(methods=["resample"], allocation="uniform", rollouts=3)
    found, w, answering = study([first, again(script, first)], chosen, script)
    once = Counter(
        (i.key, k) for i in answering.asked if isinstance(i, Item) for k in i.replicate_range
    )
    assert set(once.values()) == {1}
    rollouts = [r for r in w.rows if isinstance(r, RolloutRow)]
    told = Counter((r.trace_id, r.item_key) for r in rollouts if r.start_token == 0)
    assert list(told.values()) == [3, 3] and len({key for _, key in told}) == 1


def test_rows_tell_what_was_asked_and_what_came(script: Script) -> None:
    chosen = options(methods=["force"], target_halfwidth=0.2)
    found, w, answering = study([scripted_trace(script, 2)], chosen, script)
    items = {r.item_key: r for r in w.rows if isinstance(r, ItemRow)}  # the last of each stands
    rollouts = [r for r in w.rows if isinstance(r, RolloutRow)]
    came = Counter(r.item_key for r in rollouts)
    assert came == {key: row.replicates for key, row in items.items()}
    forced = {r.intervention for r in rollouts}
    assert forced == {"", "force"}
    assert all(r.text for r in rollouts if r.n_tokens > 1)
    assert all(r.left_unit is None for r in rollouts if r.intervention == "force")


def test_what_is_asked_says_how_long_it_is_expected_to_be(script: Script) -> None:
    w = world(options(methods=["force"], allocation="uniform", rollouts=2), script=script)
    [case] = cases_of([scripted_trace(script, 1)], w)
    flow = Anchors().run([case], w.ctx)
    scoring = next(flow)
    assert list(scoring.expected) == [0]
    for o in [o for item in scoring.items for o in Answering(scripted(script))._observe(item)]:
        scoring.take([o])
    fork = next(flow)
    first, *_ = fork.flows
    inner = next(first)
    ask = next(next(iter(inner.flows)))
    written = len(case.tokens.response_ids)
    at = [len(i.prefix_ids) - len(case.tokens.prompt_ids) for i in ask.items]
    assert list(ask.expected) == [max(1, written - t) for t in at]


def test_failed_rollouts_are_counted_and_are_no_outcomes(script: Script) -> None:
    trace = scripted_trace(script, 0)
    w = world(options(methods=["resample"], allocation="uniform", rollouts=4), script=script)
    cases = cases_of([trace], w)
    bad = cases[0].tokens.response_ids[cases[0].units[3].token_start - 1]
    answering = Answering(scripted(script, refuse=bad))
    found = drive(Anchors().run(cases, w.ctx), answering)
    rows = [r for r in w.rows if isinstance(r, RolloutRow)]
    failed = [r for r in rows if r.error is not None]
    assert found.failed == len(failed) > 0 and found.attempted == len(rows)
    assert {(r.answer, r.reward, r.grade_status, r.left_unit) for r in failed} == {
        (None, None, "ungraded", None)
    }


def test_the_scoring_pass_gives_the_probability_of_each_sentence(script: Script) -> None:
    """Against the script itself: a shift by one token gives other numbers."""
    trace = scripted_trace(script, 4)
    found, w, _ = study([trace], options(methods=["resample"], target_halfwidth=0.3), script)
    [case] = cases_of([trace], w)
    ids = case.tokens.response_ids
    keep = {s.unit_index: s.value for s in found.scores if s.metric == "keep"}
    for u in case.units:
        exact = 1.0
        for t in range(u.token_start, u.token_end):
            exact *= script.next_token(ids[:t])[ids[t]]
        assert keep[u.index] == pytest.approx(exact)
    assert len(set(keep.values())) > 3


def test_recorded_log_probabilities_save_the_scoring_pass(script: Script) -> None:
    trace = scripted_trace(script, 4)
    w = world(options(), script=script)
    ids = w.ctx.tokenize(trace).response_ids
    row = [float(np.log(script.next_token(ids[:t])[ids[t]])) for t in range(len(ids))]

    def written(token_ids: tuple[int, ...]) -> Reasoning:
        turn = dataclasses.replace(trace.turns[1], token_ids=token_ids, token_logprobs=tuple(row))
        [case] = cases_of([dataclasses.replace(trace, turns=(trace.turns[0], turn))], w)
        return case

    case = written(ids)
    assert case.keep is not None
    answering = Answering(scripted(script))
    drive(Anchors().run([case], w.ctx), answering)
    assert {i.kind for i in answering.asked} == {"generate"}
    # Log-probabilities of other tokens than those that are studied are of no use.
    assert written((*ids[:3], 7, *ids[4:])).keep is None


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.7), Sampling(top_p=0.9)])
def test_a_plain_pass_says_nothing_about_other_sampling(script: Script, sampling: Sampling) -> None:
    chosen = options(methods=["resample"], target_halfwidth=0.3)
    found, _, answering = study([scripted_trace(script)], chosen, script, sampling=sampling)
    assert {i.kind for i in answering.asked} == {"generate"}
    assert not any(s.metric == "keep" for s in found.scores)


def test_what_cannot_be_studied_says_why(script: Script) -> None:
    def refusal(trace: Trace, **given: Any) -> str:
        w = world(options(**given), script=script, context_length=300)
        with pytest.raises(PlanError) as e:
            cases_of([trace], w)
        return str(e.value)

    good = scripted_trace(script)
    assert "max_units = 2" in refusal(good, max_units=2)
    bare = dataclasses.replace(
        good, reference=None, turns=(good.turns[0], Turn("assistant", "Nothing. At all."))
    )
    assert "no final answer that grading can find" in refusal(bare)
    empty = dataclasses.replace(good, turns=(good.turns[0], Turn("assistant", "")))
    assert "no reasoning to study" in refusal(empty)
    long = dataclasses.replace(good, turns=(Turn("user", "x" * 400), good.turns[1]))
    assert "the model's context holds 300" in refusal(long)
    episode = Episode(name="run", steps=(Step(0, "llm", content="hi"),), format="atif", task="t")
    said = refusal(Trace.of_episode(episode))
    assert "`tracelab audit`" in said and "--turn N" in said


def test_roles_reach_the_units(script: Script) -> None:
    trace = scripted_trace(script)
    w = world(options(), script=script)
    [plain] = cases_of([trace], w)
    u = plain.units[2]
    marked = dataclasses.replace(trace, extra={"roles": [[u.start, u.end, "plan"]]})
    [case] = cases_of([marked], w)
    assert [x.role for x in case.units if x.role] == ["plan"] and case.units[2].role == "plan"
    assert len(case.categories) == len(case.units) and all(case.categories)
    assert case.trace.extra["reward_kind"] == "reference"


def test_methods_that_are_not_there_are_named_with_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'counterfactual'"):
        options(methods=["counterfactuals"])
    assert list(METHODS) == EVERY
    assert all(METHODS[name].help for name in METHODS)
    assert isinstance(STUDIES["anchors"](), Anchors)


def test_nothing_to_study_is_no_finding(script: Script) -> None:
    found, w, answering = study([], options(methods=EVERY), script)
    assert found == Findings() and w.rows == [] and answering.asked == []
