"""Floors against their definitions, brute force, and on the real runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import isclose

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared import needs_shared, shared
from tracelab.core.episode import Episode, Label, Step
from tracelab.core.seam import Reject
from tracelab.sources import read
from tracelab.studies.audit.opinions.floors import FLOORS, Guess, error_rule
from tracelab.studies.audit.opinions.scoring import score_guess, summarise

DATA = shared("data/who_and_when")
real = needs_shared


def run(*steps: str, label: int | None = None) -> Episode:
    """Steps as `agent`, `agent*` for a tool, `agent!` when it reports an error, `>` coordinates."""
    made = []
    for i, text in enumerate(steps):
        name = text.rstrip("*!>")
        made.append(
            Step(
                index=i,
                kind="tool" if "*" in text else "llm",
                agent=name,
                content="exitcode: 1" if "!" in text else "fine",
                flags=("coordinator",) if ">" in text else (),
            )
        )
    return Episode("e", tuple(made), "x", label=None if label is None else Label(label, None))


def only(name: str, *cases: Episode) -> Guess:
    guess = FLOORS[name](cases)[0]
    assert guess is not None
    return guess


def test_random_floors_are_expectations() -> None:
    e = run("a", "t*", "b", "a")
    assert only("uniform", e) == Guess((0.25,) * 4, {"a": 1 / 3, "t": 1 / 3, "b": 1 / 3})
    llm = only("uniform-llm", e)
    assert llm.steps == (1 / 3, 0, 1 / 3, 1 / 3)
    assert llm.agents == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert llm.step is None


@pytest.mark.parametrize(
    ("name", "steps", "step"),
    [
        ("first-step", ("t*", "a"), 0),
        ("last-llm-step", ("a", "b", "t*"), 1),
        ("busiest-agent", ("a", "b", "t*", "t*", "t*", "b"), 1),
        ("busiest-agent", ("a", "b", "b", "a"), 0),
        ("error-rule", ("a", "b", "c", "t*!", "a"), 2),
        ("error-rule", ("a", "b", "t*", "c"), 1),
        ("error-rule", ("a!", "b", "t*"), 1),
        ("error-rule", ("h*", "o>", "w", "o>!", "w"), 2),
        ("error-rule", ("h*", "o>!", "w", "o>", "v"), 4),
        ("error-rule", ("o>", "o>"), 1),
        ("error-rule", ("a", "t*!"), 0),
    ],
)
def test_rules(name: str, steps: tuple[str, ...], step: int) -> None:
    guess = only(name, run(*steps))
    assert guess.step == step
    assert guess.agents == {steps[step].rstrip("*!>"): 1.0}


@given(st.lists(st.none() | st.integers(0, 3), max_size=8))
@settings(max_examples=200)
def test_leave_one_out_is_what_it_says(labels: Sequence[int | None]) -> None:
    cases = [run("a", "a", "a", label=v) for v in labels]
    for i, guess in enumerate(FLOORS["step-mode"](cases)):
        others = Counter(v for j, v in enumerate(labels) if j != i and v is not None)
        if not others:
            assert guess is None
        else:
            mode = min(v for v in others if others[v] == max(others.values()))
            assert guess is not None and guess.step == min(mode, 2)


def test_llm_step_mode_counts_llm_steps() -> None:
    others = [run("t*", "a", "t*", "a", label=3)] * 2
    assert only("llm-step-mode", run("a", "b", "c"), *others).step == 1
    assert only("step-mode", run("a", "b", "c"), *others).step == 2


@given(st.lists(st.sampled_from(["a", "b", "t*", "a!", "o>", "t*!"]), max_size=6))
def test_every_floor_is_a_distribution(steps: list[str]) -> None:
    cases = [run(*steps, label=0)] * 2
    for name, floor in FLOORS.items():
        for guess in floor(cases):
            if guess is None:
                assert all("*" in s for s in steps) or "mode" in name, name
            else:
                assert len(guess.steps) == len(steps)
                assert isclose(sum(guess.steps), 1) and isclose(sum(guess.agents.values()), 1)


def test_without_labels_nothing_is_learnt() -> None:
    assert FLOORS["step-mode"]([run("a"), run("b")]) == [None, None]
    assert error_rule(Episode("e", (), "x")) is None


# Sums over the odd-numbered files: agent, step. Percentages of the full set where published in
# the project's notes, for plausibility: agent, step.
MEASURED = {
    "algorithm_generated": {
        "uniform": (18.8333, 7.6817, 29.1, 12.0),
        "uniform-llm": (29.3175, 10.2579, 45.2, 16.3),
        "first-step": (28, 9, 49.2, 15.9),
        "last-llm-step": (30, 2, 44.4, 4.8),
        "busiest-agent": (39, 15, 54.0, 19.0),
        "step-mode": (30, 19, 42.9, 27.0),
        "llm-step-mode": (33, 19, 61.9, 38.1),
        "error-rule": (37, 23, 59.5, 40.5),
    },
    "hand_crafted": {
        "uniform": (8.2, 0.9510, 29.2, 4.2),
        "uniform-llm": (10.3889, 1.0033, 38.0, 4.6),
        "first-step": (0, 0, 0, 0),
        "last-llm-step": (18, 3, 60.3, 12.1),
        "busiest-agent": (8, 0, 31.0, 1.7),
        # Two steps share the lead in the full set, so leaving one out always names the other;
        # half of it has one leader. Hence no full-set figure to compare with.
        "step-mode": (18, 9, 51.7, None),
        "llm-step-mode": (18, 9, 51.7, None),
        "error-rule": (17, 3, 51.7, 12.1),
    },
}


@real
@pytest.mark.parametrize("subset", MEASURED)
def test_the_real_runs(subset: str) -> None:
    cases = [e for t in read(DATA / subset) if not isinstance(t, Reject) if (e := t.episode)]
    n = len(cases)
    assert n == {"algorithm_generated": 63, "hand_crafted": 29}[subset]
    for name, (agent, step, full_agent, full_step) in MEASURED[subset].items():
        guesses = FLOORS[name](cases)
        m = summarise([score_guess(g, e) for g, e in zip(guesses, cases, strict=True)])
        assert m.agent.value is not None and m.step.value is not None
        assert m.agent.value * n == pytest.approx(agent, abs=2e-3), name
        assert m.step.value * n == pytest.approx(step, abs=2e-3), name
        for ours, full in ((m.agent.value, full_agent), (m.step.value, full_step)):
            if full is not None:  # 3 binomial standard errors of the half that is here
                p = full / 100
                assert abs(ours - p) <= 3 * (max(p * (1 - p), 0.01) / n) ** 0.5, (name, ours, full)
