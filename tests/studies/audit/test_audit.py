"""Audits of episodes played by the planted policy, whose decisive step the world knows."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.studies.audit.audit_world import (
    Driver,
    Policy,
    TextTokens,
    audited,
    context,
    decisive,
    failures,
    played,
    policy_of,
    rerun,
    world,
)
from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.finding import Findings
from tracelab.core.flow import Ask
from tracelab.core.item import Item, Observation
from tracelab.core.seam import EnvironmentFailure, RecordedRun, State
from tracelab.core.trace import Trace, Turn
from tracelab.environments.testbed import MarketWorld
from tracelab.run.config import parse_config
from tracelab.run.wiring import local_pool, wire
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.corrected import Corrected
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.rerun import Launch, Reruns, follows, same_messages
from tracelab.studies.audit.rows import RerunRow
from tracelab.studies.audit.study import Audit
from tracelab.studies.chat import Chat
from tracelab.testbed.agent_runs import as_trace, planted
from tracelab.testbed.agent_world import task

TASKS = world(60, 5)
RUNS = failures(TASKS, 60)
EXECUTE = AuditOptions(environment="testbed")


def driver(**more: Any) -> Driver:
    return Driver(policy_of(TASKS), **more)


Audited = tuple[list[RecordedRun], Driver, Findings, Any]


@pytest.fixture(scope="module")
def sixteen() -> Audited:
    """Sixteen failures, audited."""
    mine, runs = driver(), RUNS[:16]
    return runs, mine, *audited(runs, mine)


def test_planted_steps_are_found(sixteen: Audited) -> None:
    runs, mine, found, told = sixteen
    assert len(found.verdicts) == len(runs)
    pairs = [(run, v) for run, v in zip(runs, found.verdicts, strict=True) if decisive(run)]
    assert len(pairs) >= 8
    right = 0
    for run, v in pairs:
        step = decisive(run)
        right += v.decisive_step == step
        if v.status == "localized" and v.decisive_step == step:
            assert v.agent == run.agents[run.steps.index(step)]
            assert step in v.credible_set and (v.posterior or 0) >= 0.9
    assert right / len(pairs) > 0.8
    # An earlier action may have a correction too; mostly the decisive one is the first that has.
    at_fault = [v.correctable_step in (None, decisive(run)) for run, v in pairs]
    assert sum(at_fault) / len(pairs) > 0.8
    assert any(v.counterfactual for _, v in pairs)
    assert isinstance(mine.model, Policy)
    drawn = mine.model.drawn
    assert len(drawn) == len(set(drawn)), "no sample is used twice"
    for run, v in zip(runs, found.verdicts, strict=True):
        if planted(run.task, run.actions)[0] == "impossible":
            assert v.status == "unidentifiable"
    by_trace = {as_trace(run).trace_id: run for run in runs}
    for s in found.scores:
        own = s.unit_kind != "span"
        assert s.unit_index in by_trace[s.trace_id].steps if own else s.evidence == "scored"
    rows = [r for r in told.rows if isinstance(r, RerunRow)]
    plain = [(r.trace_id, r.start_step) for r in rows if not r.forced]
    assert max(map(plain.count, plain)) <= EXECUTE.rollouts
    assert found.attempted == len(plain) and found.failed == 0
    for v in found.verdicts:
        mine_too = [r.position for r in rows if r.trace_id == v.trace_id]
        assert mine_too == list(range(len(mine_too)))


def test_what_helped_is_kept_for_a_regression_test(sixteen: Audited) -> None:
    _, _, found, _ = sixteen
    corrected = [v for v in found.verdicts if v.correctable_step is not None]
    assert corrected and len(found.exports) == len(corrected)
    for kept, v in zip(found.exports, corrected, strict=True):
        assert isinstance(kept, Corrected) and Corrected.of(kept.to_json()) == kept
        assert kept.run.steps[kept.action] == v.correctable_step
        assert kept.correction[0] == v.counterfactual and kept.reason == v.reason


def same(a: Findings, b: Findings) -> None:
    assert a.verdicts == b.verdicts
    assert a.scores == b.scores
    assert a.exports == b.exports
    assert (a.attempted, a.failed) == (b.attempted, b.failed)


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 1 << 32))
def test_the_order_of_arrival_changes_nothing(seed: int) -> None:
    first, rows = audited(RUNS[:3], driver())
    again, other = audited(RUNS[:3], driver(shuffle=random.Random(seed)))
    same(first, again)
    assert sorted(map(repr, rows.rows)) == sorted(map(repr, other.rows))


def test_how_many_live_at_one_time_changes_nothing() -> None:
    few = AuditOptions(environment="testbed", max_live=2)
    same(audited(RUNS[:3], driver())[0], audited(RUNS[:3], driver(), few)[0])


def test_other_runs_change_only_the_prior() -> None:
    """What is drawn for a run is its own, whoever is audited beside it."""
    alone, together_ = driver(), driver()
    audited(RUNS[:1], alone, AuditOptions(environment="testbed", rollouts=4, correct=False))
    audited(RUNS[:3], together_, AuditOptions(environment="testbed", rollouts=4, correct=False))
    assert set(alone.journal) <= set(together_.journal)


def test_an_audit_that_is_driven_again_asks_for_nothing() -> None:
    mine = driver()
    first, _ = audited(RUNS[:2], mine)

    class Gone(MarketWorld):
        def __init__(self) -> None:
            raise AssertionError("no environment is needed")

    again = Driver(mine.model, journal=dict(mine.journal))
    same(first, audited(RUNS[:2], again, make=Gone)[0])
    assert again.asked == []
    half = dict(list(mine.journal.items())[: len(mine.journal) // 2])
    more = driver(journal=half)
    same(first, audited(RUNS[:2], more)[0])
    assert 0 < len(more.asked) < len(mine.asked)


def test_a_random_environments_failure_is_not_reproduced() -> None:
    """The same actions in a world that does not spoil the reply: the record does not come back."""
    run = RUNS[0]
    spoilt = list(run.before[2])
    spoilt[-1] = {"role": "tool", "content": "Note: something else."}
    changed = replace(run, before=(*run.before[:2], tuple(spoilt), *run.before[3:]))
    mine = driver()
    found, _ = audited([changed], mine)
    [verdict] = found.verdicts
    assert (verdict.status, verdict.who) == ("nonreproducible", "environment")
    assert verdict.extra["differs_at"] == run.steps[1]
    assert verdict.recorded == "tool: Note: something else."
    assert verdict.came_instead == f"tool: {run.before[2][-1]['content']}"
    for said in ("Note: something else.", run.before[2][-1]["content"][:40]):
        assert said in verdict.reason, "who reads the reason sees both"
    assert verdict.rollouts == 0 and set(mine.asked) == {"rerun", "act"}, "nothing is sampled"


def test_a_budget_of_tokens_is_kept_and_shared() -> None:
    whole, unbound = audited(RUNS[:4], driver())
    spent = sum(r.tokens for r in unbound.rows if r.table == "reruns")
    for budget in (200, 2_000):
        options = EXECUTE.model_copy(update={"budget_tokens": budget})
        mine = driver()
        found, told = audited(RUNS[:4], mine, options)
        wrote = sum(len(o.token_ids) for o in mine.journal.values())
        assert wrote <= 2 * budget, "re-executions may come out longer than the record"
        assert len(found.verdicts) == len(whole.verdicts)
        assert sum(r.tokens for r in told.rows if r.table == "reruns") < spent
        again, _ = audited(RUNS[:4], driver(shuffle=random.Random(1)), options)
        same(found, again)


class Generous(MarketWorld):
    """Gives marks for nothing."""

    def score(self) -> float:
        return 0.75


def test_another_score_for_the_same_replies_is_shown_beside_the_recorded_one() -> None:
    [verdict] = audited(RUNS[:1], driver(), make=Generous)[0].verdicts
    assert (verdict.status, verdict.recorded, verdict.came_instead) == (
        "nonreproducible", "score 0", "score 0.75",
    )  # fmt: skip


def test_a_rerun_that_repeats_the_record_is_a_sample_of_later_steps() -> None:
    run = RUNS[0]
    made = rerun([Launch(run, 0, k) for k in range(30)], driver())
    passed = [r for r in made if r.left > 0]
    assert passed, "the plan is mostly repeated"
    for r in made:
        assert r.actions[: r.left] == run.actions[: r.left]
        assert r.left == len(run.actions) or r.action == r.actions[r.left]


def first_turn(launch: Launch) -> Item:
    """The first request of the model that a re-execution makes."""
    ctx, _ = context(EXECUTE)
    flow = Reruns(ctx, Chat(ctx.tokenizer), "testbed", MarketWorld).rerun(launch).payload()
    asked = next(flow)
    while isinstance(asked, Ask) and not isinstance(item := asked.items[0], Item):
        item.payload()
        asked.take([Observation.of(item.key, 0, None)])
        asked = next(flow)
    flow.close()
    assert isinstance(asked, Ask) and isinstance(item, Item)
    return item


def test_launches_from_one_place_are_replicates_of_one_request_and_of_no_other() -> None:
    run, other = RUNS[0], replace(RUNS[0], name="the same again")
    items = [first_turn(Launch(run, 1, k)) for k in range(3)]
    assert len({i.key for i in items}) == 1
    assert [i.first_replicate for i in items] == [0, 1, 2]
    assert first_turn(Launch(other, 1, 0)).key != items[0].key
    assert first_turn(Launch(run, 0, 0, forced=run.actions[0])).key != items[0].key


class Breaking(MarketWorld):
    """Fails at its third step."""

    def step(self, action: str) -> State:
        if len(self._env.steps) == 2:
            raise EnvironmentFailure("broken")
        return super().step(action)


class Unrestorable(MarketWorld):
    """Cannot go back."""

    def restore(self, run: RecordedRun, t: int) -> State:
        raise EnvironmentFailure("no way back")


@pytest.mark.parametrize("make", [Breaking, Unrestorable])
def test_an_environment_that_fails_gives_no_verdict_about_a_step(make: type[MarketWorld]) -> None:
    mine = driver()
    found, _ = audited(RUNS[:2], mine, make=make)
    for verdict in found.verdicts:
        assert (verdict.status, verdict.who) == ("nonreproducible", "unknown")
        assert verdict.reason.endswith(
            "again: " + ("broken" if make is Breaking else "no way back")
        )
        assert verdict.decisive_step is None and verdict.recorded is None
        assert verdict.came_instead == ("broken" if make is Breaking else "no way back")
    assert found.attempted == found.failed == 2
    assert "generate" not in mine.asked


def test_failed_reruns_are_excluded_and_counted() -> None:
    [made] = rerun([Launch(RUNS[0], 0, 0)], driver(), Breaking)
    assert made.reward is None and made.error == "broken"
    assert len(made.actions) == 3, "what was done until then is kept"


def test_an_engine_that_fails_is_no_outcome_of_a_rerun() -> None:
    def down(item: Item, replicate: int) -> Observation:
        return Observation(item.key, replicate, finish_reason="error", error="engine: down")

    mine = Driver(down)
    [made] = rerun([Launch(RUNS[0], 0, 0)], mine)
    assert (made.reward, made.error) == (None, "engine: down")
    found, told = audited(RUNS[:1], Driver(down), AuditOptions(environment="testbed", rollouts=4))
    [verdict] = found.verdicts
    assert verdict.status == "unidentifiable" and "could be graded" in verdict.reason
    assert 0 < found.failed == found.attempted
    assert all(s.value is None for s in found.scores if s.method == "re-execute")
    errors = {r.error for r in told.rows if isinstance(r, RerunRow)}
    assert errors == {"engine: down"}


def test_a_step_in_an_environment_that_was_lost_fails_the_rerun() -> None:
    """Whoever carries a step out may fail too."""
    ctx, _ = context(EXECUTE)
    call = Reruns(ctx, Chat(ctx.tokenizer), "testbed", MarketWorld).rerun(Launch(RUNS[0], 0, 0))
    flow = call.payload()
    asked = next(flow)
    assert isinstance(asked, Ask)
    why = "environment: the thread was lost"
    asked.take([Observation(asked.items[0].key, 0, finish_reason="error", error=why)])
    with pytest.raises(StopIteration) as end:
        next(flow)
    assert end.value.value.value["error"] == why


def test_an_environment_is_closed_when_the_flow_is() -> None:
    closed: list[int] = []

    class Watched(MarketWorld):
        def close(self) -> None:
            closed.append(1)

    ctx, _ = context(EXECUTE, Watched)
    call = Reruns(ctx, Chat(ctx.tokenizer), "testbed", Watched).rerun(Launch(RUNS[0], 0, 0))
    flow = call.payload()
    before = len(closed)
    asked = next(flow)
    assert isinstance(asked, Ask)
    asked.items[0].payload()  # type: ignore[union-attr]
    flow.close()
    assert len(closed) == before + 2, "the one that was looked at for side effects, and this one"


def test_side_effects_must_be_acknowledged_before_anything_is_executed() -> None:
    class Effects(MarketWorld):
        side_effects = True

    with pytest.raises(ConfigError, match="has side effects"):
        audited(RUNS[:1], driver(), make=Effects)
    allowed = AuditOptions(environment="testbed", side_effects=True, rollouts=4, controls=1)
    assert audited(RUNS[:1], driver(), allowed, make=Effects)[0].verdicts


def test_replies_decide_whether_chats_are_the_same() -> None:
    said = [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "1"}]
    other = [{"role": "assistant", "content": "b"}, {"role": "tool", "content": "1"}]
    assert same_messages(said, other)
    assert not same_messages(said, [*other[:1], {"role": "tool", "content": "2"}])


def test_a_log_that_ends_before_the_last_reply_is_reproduced() -> None:
    """The limit of turns, or a crash: the last call has no result in the log."""
    run = next(r for r in RUNS if r.tools[-1] is None)
    before = run.state_after(len(run.actions) - 1)
    more = State((*before, {"role": "tool", "content": "late"}))
    assert follows(more, run, len(run.actions) - 1)
    assert not follows(more, run, 0)


def run_study(traces: list[Trace], options: AuditOptions) -> tuple[Findings, Any]:
    ctx, told = context(options)
    study = Audit()
    cases = [case for t in traces for case in study.cases(t, ctx)]
    return driver().drive(study.run(cases, ctx)), told


def test_what_is_no_run_of_an_agent_is_refused() -> None:
    trace = Trace((Turn("user", "q"), Turn("assistant", "a")), "t")
    with pytest.raises(PlanError, match="is no run of an agent: it has no steps"):
        run_study([trace], EXECUTE)


def test_runs_that_succeeded_are_left_alone_and_odd_ones_are_rejects() -> None:
    good = next(run for run in played(TASKS) if run.score == 1.0)
    traces = [as_trace(good), *(as_trace(run) for run in RUNS[:2])]
    unknown = replace(traces[1], extra={})
    assert unknown.episode is not None
    unknown = replace(unknown, name="who knows", line=7, episode=replace(
        unknown.episode, success=None, reward=None))  # fmt: skip
    options = AuditOptions(environment="testbed", rollouts=4, opinions=["first-step"])
    found, _ = run_study([*traces, unknown], options)
    executed = [v.trace_id for v in found.verdicts if v.evidence == "executed"]
    assert executed == [t.trace_id for t in traces[1:]]
    assert sum(v.evidence == "judged" for v in found.verdicts) == 2, "unknown is not failed"
    [reject] = found.rejects
    assert reject.line == 7
    assert reject.reason.startswith("who knows: the log does not say whether the run succeeded")


def test_nothing_to_execute_is_said() -> None:
    good = next(run for run in played(TASKS) if run.score == 1.0)
    with pytest.raises(PlanError, match="no failed run that can be re-executed"):
        run_study([as_trace(good)], EXECUTE)
    with pytest.raises(PlanError, match="has 3 model steps|model steps, more than"):
        run_study([as_trace(RUNS[0])], AuditOptions(environment="testbed", max_steps=1))
    with pytest.raises(ConfigError, match="to execute, or audit.opinions, to guess"):
        run_study([as_trace(RUNS[0])], AuditOptions())


def test_the_testbeds_agents_play_first() -> None:
    ctx, _ = context(EXECUTE)
    asked = [task("evaluation", 3, i) for i in range(12)]
    policy = type(policy_of([]))(asked)
    traces = Driver(policy).drive(Audit().play(12, 3, ctx))
    assert traces and all(t.episode is not None and t.episode.success is False for t in traces)
    for trace in traces:
        back = Trace.from_json(trace.to_json())
        run = AgentRun.of(back).recorded(Chat(TextTokens()), most=99, context_length=1 << 20)  # type: ignore[arg-type]
        assert list(run.steps) == [s.index for s in trace.episode.steps if s.kind == "llm"]
        state = MarketWorld().restore(run, 0)
        assert state.messages == run.before[0]


@pytest.mark.engine
@pytest.mark.timeout(600)
def test_the_bundled_model_is_audited_from_play_to_verdict() -> None:
    """The whole study on an engine: it plays, fails, and is told where."""
    wired = wire(parse_config({
        "name": "t", "study": "audit", "source": "testbed", "model": "testbed",
        "engine": {"kind": "transformers", "dtype": "float32", "max_model_len": 512},
    }, "t"))  # fmt: skip
    pool = local_pool(wired.spec, 64)
    options = AuditOptions(environment="testbed", initial=2, rollouts=2, controls=1, confirm=2,
                           ablations=8, opinions=["error-rule", "all-at-once"])  # fmt: skip
    ctx, told = context(
        options, tokenizer=wired.tokenizer, model=wired.spec.model, context_length=512
    )
    silent = Driver(pool=pool)
    try:
        traces = silent.drive(Audit().play(5, 3, ctx))
        cases = [case for t in traces[:1] for case in Audit().cases(t, ctx)]
        found = silent.drive(Audit().run(cases, ctx))
        again = Driver(journal=dict(silent.journal))
        same(found, again.drive(Audit().run(cases, ctx)))
    finally:
        pool.close()
    assert cases and again.asked == []
    executed = [v for v in found.verdicts if v.evidence == "executed"]
    assert [v.trace_id for v in executed] == [c.trace_id for c in cases]
    assert all(v.status != "nonreproducible" for v in executed)
    judged = [v for v in found.verdicts if v.method == "judge:all-at-once"]
    assert [v.extra["opinion"] for v in judged] == ["overlong"], "the log does not fit 512 tokens"
    for case, v in zip(cases, executed, strict=True):
        label = case.episode.label
        if v.status == "localized" and label is not None and label.step is not None:
            assert v.decisive_step == label.step
    exact = [s for s in found.scores if s.metric == "delta_value"]
    assert all(0 <= s.extra["keep"] <= 1 for s in exact) and any(s.extra["keep"] for s in exact)
    assert "1 calls failed, 0 answers name no step" in told.warnings[0]
