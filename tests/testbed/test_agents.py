"""The agents' world: deterministic tools, and faults that are what they are labelled as."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.testbed.agent_labels import FAULTS, flawless, is_well_formed_turn, play, read
from tracelab.testbed.agent_world import MAX_TURNS, AgentTask, MarketEnvironment, task, tasks
from tracelab.testbed.market import split_of

SEEDS = st.integers(0, 10**6)


def episode_of(asked: AgentTask, seed: int) -> list[str]:
    return play(asked, random.Random(seed))


@given(SEEDS)
def test_every_planted_step_is_read(seed: int) -> None:
    asked = task("train", seed, 0)
    episode = read(asked, episode_of(asked, seed))
    assert "garbled" not in {s.role for s in episode.steps}
    assert all(is_well_formed_turn(s.text) for s in episode.steps)
    assert episode.cause != "unexplained"
    assert (episode.cause is None) == episode.success
    assert (episode.decisive_step is not None) == (episode.cause in FAULTS)
    assert len(episode.steps) <= MAX_TURNS


@given(SEEDS, st.integers(0, MAX_TURNS))
def test_restoring_is_replaying(seed: int, cut: int) -> None:
    asked = task("evaluation", seed, 0)
    steps = episode_of(asked, seed)
    whole, again = MarketEnvironment(), MarketEnvironment()
    whole.restore(asked, steps)
    again.restore(asked, steps[:cut])
    for step in steps[cut:]:
        again.step(step)
    assert again.messages == whole.messages
    assert again.score() == whole.score()
    assert whole.done


@given(SEEDS)
def test_taking_the_decisive_step_right_saves_the_episode(seed: int) -> None:
    """With the one fault undone, a policy without faults succeeds; with it, it does not."""
    asked = task("train", seed, 0)
    episode = read(asked, episode_of(asked, seed))
    if episode.decisive_step is None:
        return
    steps = [s.text for s in episode.steps]
    assert flawless(asked, steps[: episode.decisive_step]) == 1.0
    assert flawless(asked, steps[: episode.decisive_step + 1]) == 0.0


def test_every_kind_of_failure_occurs_and_success_is_in_range() -> None:
    causes = Counter(
        read(t, play(t, random.Random(t.task_id))).cause for t in tasks(1500, split="train")
    )
    assert FAULTS | {"several", "diffuse", "impossible", None} == set(causes)
    assert 0.45 < causes[None] / 1500 < 0.8
    assert sum(causes[f] for f in FAULTS) / 1500 > 100 / 400


def test_tasks_repeat_and_stay_in_their_split() -> None:
    assert tasks(5, seed=1) == tasks(5, seed=1)
    for asked in tasks(100, split="development"):
        assert split_of(*asked.goods, asked.shop) == "development"


def test_unreadable_steps_end_the_episode_unanswered() -> None:
    env = MarketEnvironment()
    env.reset(tasks(1)[0])
    env.step("nonsense")
    env.step("more nonsense")
    assert env.done
    assert env.score() == 0.0
    with pytest.raises(ValueError, match="over"):
        env.step("again")


@pytest.mark.parametrize(
    "said", ["<tool_call>calc sing max 5</tool_call>", "<tool_call>look up Tea</tool_call>", ""]
)
def test_calls_that_no_tool_takes_are_not_well_formed(said: str) -> None:
    assert not is_well_formed_turn(f"Now add.\n</think>\n\n{said}")
    assert is_well_formed_turn("Now add.\n</think>\n\n<tool_call>calc 4 plus 5</tool_call>")


def test_calling_a_right_note_wrong_only_wastes_a_turn() -> None:
    asked = next(t for t in tasks(50) if not t.hidden and not t.poison)
    plan = "The bill is a sum.\n</think>\n\nPlan: add, then use the change."
    good = asked.goods[0]
    call = f"\n</think>\n\n<tool_call>lookup {good}</tool_call>"
    steps = [plan, f"I need {good}.{call}", f"That was the wrong note.{call}"]
    episode = read(asked, play(asked, random.Random(0), steps))
    assert [s.role for s in episode.steps[:3]] == ["plan_right", "lookup", "dither"]
    assert "garbled" not in {s.role for s in episode.steps}
