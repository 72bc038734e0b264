"""Opinions of an audit: who is asked what, and what counts as an answer."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.studies.audit.audit_world import Driver, context
from tracelab.core.episode import Episode, Label, Step
from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.finding import Findings
from tracelab.core.item import Call, Observation
from tracelab.core.trace import Trace
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.options import AuditOptions, JudgingConfig
from tracelab.studies.audit.study import Audit

ENDPOINT = JudgingConfig(endpoint="http://x/v1", model="m", reply_tokens=50)


def episode(i: int, success: bool | None = False, label: int | None = None) -> Trace:
    steps = (
        Step(0, "user", "user", "Count the pens."),
        Step(1, "llm", "Coder", f"I count {i}."),
        Step(2, "tool", "shell", "exitcode: 1 Error", result="exitcode: 1 Error"),
        Step(3, "llm", "Checker", "Done 7"),
    )
    named = None if label is None else Label(label, steps[label].agent)
    e = Episode(f"e{i}", steps, "x", task=f"How many, {i}?", success=success, label=named,
                reference="8")  # fmt: skip
    return Trace.of_episode(e)


def said(call: Call, text: str, finish_reason: str = "stop") -> Observation:
    value = {"text": text, "finish_reason": finish_reason}
    return Observation.of(call.key, 0, value | {"prompt_tokens": 1, "output_tokens": 1})


def number(call: Call) -> int:
    return int(call.content["messages"][1][1].split("How many, ")[1].split("?")[0])


def mixed(call: Call) -> Observation:
    """One judge, that does to each run what its number says."""
    match number(call):
        case 0:
            return said(call, "Agent: Coder\nStep: 1\nReason: it \x1b[2J")
        case 1:
            return said(call, "Agent: Coder\nStep: 1 2 3")
        case 2:
            return said(call, "Agent: Nobody\nStep: ", "length")
        case _:
            return Observation(call.key, 0, finish_reason="error", error="rate_limited: 429")


def opinions(
    traces: list[Trace], names: list[str], driver: Driver, judge: JudgingConfig = ENDPOINT
) -> tuple[Findings, Any]:
    ctx, told = context(AuditOptions(opinions=names, judge=judge), seed=4)
    return driver.drive(Audit().run([AgentRun.of(t) for t in traces], ctx)), told


def test_judges_and_rules_say_what_they_think_of_what_failed() -> None:
    traces = [episode(i) for i in range(4)] + [episode(4, True), episode(5, None)]
    judge = Driver(chat=mixed)
    found, told = opinions(traces, ["all-at-once", "error-rule", "all-at-once"], judge)
    by = {(v.trace_id, v.method): v for v in found.verdicts}
    assert len(found.verdicts) == len(by) == 8, "one of each; what succeeded is left alone"
    judged = [by[t.trace_id, "judge:all-at-once"] for t in traces[:4]]
    assert [v.extra["opinion"] for v in judged] == ["ok", "ok", "unparsed", "failed"]
    assert [v.decisive_step for v in judged] == [1, None, None, None]
    assert [v.status for v in judged] == ["ambiguous", *["unidentifiable"] * 3]
    assert judged[3].reason == "rate_limited: 429"
    assert {v.evidence for v in found.verdicts} == {"judged"}
    rule = [by[t.trace_id, "rule:error-rule"] for t in traces[:4]]
    assert [v.decisive_step for v in rule] == [1, 1, 1, 1]
    assert {(v.who, v.posterior) for v in rule} == {("unknown", None)}, "a rule blames nobody"
    scores = [s for s in found.scores if s.method == "judge:all-at-once"]
    assert [(s.trace_id, s.unit_index, s.value) for s in scores] == [(traces[0].trace_id, 1, 1.0)]
    assert {s.metric for s in found.scores} == {"named"}, "no probability of anything"
    assert (found.attempted, found.failed, found.unanswered) == (4, 1, 2), "rules ask nobody"
    assert "does not say whether the run succeeded" in str(found.rejects[0])
    assert len(found.rejects) == 1
    assert told.warnings == [
        "opinions: 1 calls failed, 2 answers name no step (1 not_an_integer, 1 no_step); "
        "they are excluded from all statistics"
    ]


def test_an_unknown_outcome_is_a_failure_only_if_somebody_says_so() -> None:
    silent, marked = episode(0, None), episode(1, None, label=3)
    found, _ = opinions([silent, marked], ["error-rule"], Driver())
    assert [v.trace_id for v in found.verdicts] == [marked.trace_id], "a marked mistake is one"
    with pytest.raises(PlanError, match="there is no failed run that can be examined; the first"):
        opinions([silent], ["error-rule"], Driver())
    ctx, _ = context(AuditOptions(opinions=["error-rule"], assume_failed=True))
    said = Driver().drive(Audit().run([AgentRun.of(silent), AgentRun.of(episode(2, True))], ctx))
    assert [v.trace_id for v in said.verdicts] == [silent.trace_id] and not said.rejects


def test_what_is_asked_names_who_is_asked() -> None:
    seen: list[Call] = []

    def answer(call: Call) -> Observation:
        seen.append(call)
        return said(call, "Step: 1")

    opinions([episode(0)], ["all-at-once"], Driver(chat=answer))
    local = JudgingConfig(reply_tokens=50, show_reference=True)
    opinions([episode(0)], ["all-at-once"], Driver(chat=answer), local)
    [there, here] = seen
    assert there.content["who"] == ["http://x/v1", "m"] and there.content["max_tokens"] == 50
    assert there.content["seed"] == here.content["seed"] == 4
    assert here.content["who"] == ["planted", "float64"]
    assert "Correct answer" not in str(there.content["messages"])
    assert "Correct answer" in str(here.content["messages"])
    assert there.key != here.key


def test_the_order_of_replies_changes_nothing() -> None:
    traces = [episode(i) for i in range(5)]
    names = ["step-by-step", "all-at-once", "binary-search", "first-step"]
    first = opinions(traces, names, Driver(chat=mixed))[0]
    shuffled = Driver(chat=mixed, shuffle=random.Random(3))
    assert opinions(traces, names, shuffled)[0] == first


def test_what_was_answered_is_not_asked_again() -> None:
    judge = Driver(chat=mixed)
    traces = [episode(i) for i in range(3)]
    first = opinions(traces, ["all-at-once"], judge)[0]
    again = Driver(journal=dict(judge.journal))
    assert opinions(traces, ["all-at-once"], again)[0] == first and again.asked == []


def test_rules_that_learn_do_so_from_the_other_runs() -> None:
    traces = [episode(0, label=3), episode(1, label=3), episode(2, label=1), episode(3)]
    found, _ = opinions(traces, ["step-mode"], Driver())
    assert [v.decisive_step for v in found.verdicts] == [1, 1, 3, 3]
    assert [v.method for v in found.verdicts] == ["rule:step-mode"] * 4


@pytest.mark.parametrize(
    ("names", "judge", "says"),
    [
        (["errorrule"], ENDPOINT, "there is no 'errorrule'; known are"),
        (["a2p"], JudgingConfig(endpoint="http://x"), "needs audit.judge.model"),
    ],
)
def test_what_cannot_be_asked_is_refused(names: list[str], judge: JudgingConfig, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        opinions([episode(0)], names, Driver(), judge)
