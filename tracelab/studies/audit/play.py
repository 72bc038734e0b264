"""Plays tasks of an environment with the model, and keeps what is needed to re-execute them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from tracelab.core.flow import Ask, Flow, together
from tracelab.core.hashing import content_hash
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import MakeEnvironment, Message, State
from tracelab.studies.audit.rerun import seed_environment
from tracelab.studies.chat import Chat

BASE = "base"
"""Intervention of what is sampled first, as of the base traces of other studies."""


@dataclass(frozen=True, slots=True)
class Played:
    """A played episode.

    Attributes:
        name: Its name.
        task: What the environment was given.
        actions: What the model wrote [N].
        before: The messages before each action [N].
        end: Where it ended.
        score: What it scored; None when that cannot be known.
        flakes: Actions whose reply or result the environment spoilt, where it says so.
    """

    name: str
    task: Mapping[str, Any]
    actions: tuple[str, ...]
    before: tuple[tuple[Message, ...], ...]
    end: State
    score: float | None
    flakes: tuple[int, ...] = ()


def market_tasks(n: int, *, seed: int, split: str, flaky: float = 0.0) -> list[dict[str, Any]]:
    """The first `n` tasks of a split of the testbed."""
    extra = {"flaky": flaky} if flaky else {}
    return [{"split": split, "seed": seed, "index": i, **extra} for i in range(n)]


def task_name(task: Mapping[str, Any]) -> str:
    """What an episode of a task of the testbed is called."""
    return "agent-{split}-{seed}-{index}".format(**task) + ("-flaky" * bool(task.get("flaky")))


def play(
    tasks: Sequence[Mapping[str, Any]],
    make: MakeEnvironment,
    chat: Chat,
    model: ModelRef,
    sampling: Sampling,
    seed: int,
) -> Flow[list[Played]]:
    """Play tasks of the testbed, each once; those that an engine failed are left out.

    Args:
        tasks: As `market_tasks` gives them.
        make: Makes the environment.
        chat: The model's template.
        model: The model.
        sampling: How it writes a turn.
        seed: The run's seed.
    """

    def one(task: Mapping[str, Any]) -> Flow[Played | None]:
        name = task_name(task)
        # Tasks may stand before the same tokens; each draws a replicate of its own.
        number = int(content_hash([name], size=3), 16)
        actions: list[str] = []
        before: list[tuple[Message, ...]] = []
        with closing(make()) as env:
            seed_environment(env, seed, f"played:{name}")
            state = env.reset(task)
            while not state.done:
                ids = chat.prompt(state.messages)
                item = Item(
                    model, ids, sampling, seed=seed, first_replicate=number, intervention=BASE
                )
                heard: list[Observation] = []
                yield Ask("episodes", [item], heard.extend)
                if heard[0].error is not None:
                    return None
                before.append(state.messages)
                actions.append(heard[0].text)
                state = env.step(heard[0].text)
            flakes = tuple(getattr(env, "flakes", ()))
            return Played(name, task, tuple(actions), tuple(before), state, env.score(), flakes)

    every = yield from together(one(task) for task in tasks)
    return [p for p in every if p is not None]
