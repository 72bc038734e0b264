"""Audits of episodes played by the planted policy, whose decisive step the world knows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tracelab.studies.audit.subject import Audit, Subject

from benchmarks.audit import run as bench_audit
from tests.studies.audit.audit_world import MODEL, Policy, auditor, world
from tracelab.core.finding import Verdict
from tracelab.core.seam import EnvironmentFailure, RecordedRun, State
from tracelab.environments.testbed import MarketWorld
from tracelab.run.config import AuditConfig
from tracelab.studies.audit.play import Played, play
from tracelab.studies.audit.rerun import Launch, follows, same_messages

TASKS = world(60, 5)


def failures(n: int, **more: Any) -> tuple[Audit, Policy, list[bench_audit.Case]]:
    audit, policy = auditor(TASKS, **more)
    chat, sampling = audit.rerunner.chat, audit.rerunner.sampling
    played = play(TASKS, chat, MODEL, sampling, 5, policy.observe)
    cases = [case for p in played if (case := bench_audit._case(p)) is not None][:n]
    for i, c in enumerate(cases):
        c.subject = Subject(str(i), c.played.run)
    policy.drawn.clear()
    return audit, policy, cases


def audited(audit: Audit, cases: list[bench_audit.Case]) -> list[Verdict]:
    return audit.examine([c.subject for c in cases if c.subject is not None])


def test_planted_steps_are_found() -> None:
    audit, policy, cases = failures(16, config=AuditConfig(correct=True))
    verdicts = audited(audit, cases)
    pairs = [(c, v) for c, v in zip(cases, verdicts, strict=True) if c.kind == "planted"]
    assert len(pairs) >= 8
    right = 0
    for c, v in pairs:
        assert c.action is not None
        step = c.played.run.steps[c.action]
        right += v.decisive_step == step
        if v.status == "localized" and v.decisive_step == step:
            assert v.agent == c.played.run.agents[c.action]
            assert step in v.credible_set and (v.posterior or 0) >= 0.9
            assert v.correctable_step in (None, step)
    assert right / len(pairs) > 0.8
    assert any(v.counterfactual for _, v in pairs)
    assert len(policy.drawn) == len(set(policy.drawn)), "no sample is used twice"
    assert policy.calls < 200, "one engine call serves many re-executions"
    for c, v in zip(cases, verdicts, strict=True):
        assert c.subject is not None
        if c.kind == "impossible":
            assert v.status == "unidentifiable"
        assert c.subject.planned.max() <= audit.config.rollouts
        for s in audit.scores(c.subject):
            own = s.unit_kind != "span"
            assert s.unit_index in c.played.run.steps if own else s.evidence == "scored"


def test_a_random_environments_failure_is_not_reproduced() -> None:
    """The same actions in a world that does not spoil the reply: the record does not come back."""
    audit, _, cases = failures(3)
    run = cases[0].played.run
    spoilt = list(run.before[2])
    spoilt[-1] = {"role": "tool", "content": "Note: something else."}
    changed = replace(run, before=(*run.before[:2], tuple(spoilt), *run.before[3:]))
    [verdict] = audit.examine([Subject("x", changed)])
    assert (verdict.status, verdict.who) == ("nonreproducible", "environment")
    assert verdict.extra["differs_at"] == run.steps[1]
    assert verdict.rollouts == 0, "nothing is sampled for it"


def test_a_resumed_audit_asks_for_nothing_again() -> None:
    audit, policy, cases = failures(2)
    first = audited(audit, cases)
    rows = audit.rerunner.rows()
    again, quiet, cases2 = failures(2)
    again.rerunner.adopt(rows)
    assert audited(again, cases2) == first
    assert quiet.drawn == []
    more, rest, cases3 = failures(2)
    more.rerunner.adopt(rows[: len(rows) // 2])
    audited(more, cases3)
    assert 0 < len(rest.drawn) < len(policy.drawn)


def test_a_rerun_that_repeats_the_record_is_a_sample_of_later_steps() -> None:
    audit, _, cases = failures(4)
    run = cases[0].played.run
    made = audit.rerunner.run("x", [Launch(run, 0, k) for k in range(30)])
    passed = [r for r in made if r.left > 0]
    assert passed, "the plan is mostly repeated"
    for r in made:
        assert r.actions[: r.left] == run.actions[: r.left]
        assert r.left == len(run.actions) or r.action == r.actions[r.left]


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
    audit, policy, cases = failures(2, make=make)
    for verdict in audited(audit, cases):
        assert (verdict.status, verdict.who) == ("nonreproducible", "unknown")
        assert verdict.reason.endswith(
            "again: " + ("broken" if make is Breaking else "no way back")
        )
        assert verdict.decisive_step is None
    assert policy.drawn == []


def test_failed_reruns_are_excluded_and_counted() -> None:
    audit, _, cases = failures(1)
    run = cases[0].played.run
    audit.rerunner.make = Breaking
    made = audit.rerunner.run("x", [Launch(run, 0, 0)])
    assert made[0].reward is None and made[0].error == "broken"


def test_replies_decide_whether_chats_are_the_same() -> None:
    said = [{"role": "assistant", "content": "a"}, {"role": "tool", "content": "1"}]
    other = [{"role": "assistant", "content": "b"}, {"role": "tool", "content": "1"}]
    assert same_messages(said, other)
    assert not same_messages(said, [*other[:1], {"role": "tool", "content": "2"}])


def test_a_random_case_needs_a_flake_before_any_fault() -> None:
    _, _, cases = failures(60)
    planted = next(c for c in cases if c.kind == "planted")
    assert bench_audit._random_case(planted.played) is None
    late = Played(planted.played.run, (planted.action or 0,))
    assert bench_audit._random_case(late) is None


def test_a_log_that_ends_before_the_last_reply_is_reproduced() -> None:
    """The limit of turns, or a crash: the last call has no result in the log."""
    _, _, cases = failures(40)
    run = next(c.played.run for c in cases if c.played.run.tools[-1] is None)
    before = run.state_after(len(run.actions) - 1)
    more = State((*before, {"role": "tool", "content": "late"}))
    assert follows(more, run, len(run.actions) - 1)
    assert not follows(more, run, 0)
