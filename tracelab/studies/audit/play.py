"""Plays tasks with the model, all at once, and keeps what is needed to re-execute them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tracelab.core.hashing import content_hash
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import Message, RecordedRun, State
from tracelab.environments.testbed import MarketWorld, recorded
from tracelab.studies.audit.rerun import Chat, seed_environment
from tracelab.studies.cite.attribution import BASE, Observe


@dataclass(slots=True)
class _Playing:
    name: str
    task: Mapping[str, Any]
    env: MarketWorld
    state: State
    actions: list[str] = field(default_factory=list)
    before: list[tuple[Message, ...]] = field(default_factory=list)
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Played:
    """A played episode, and the actions whose reply or result the environment spoilt."""

    run: RecordedRun
    flakes: tuple[int, ...]


def testbed_tasks(n: int, *, seed: int, split: str, flaky: float = 0.0) -> list[dict[str, Any]]:
    """The first `n` tasks of a split."""
    extra = {"flaky": flaky} if flaky else {}
    return [{"split": split, "seed": seed, "index": i, **extra} for i in range(n)]


def play(
    tasks: Sequence[Mapping[str, Any]],
    chat: Chat,
    model: ModelRef,
    sampling: Sampling,
    seed: int,
    observe: Observe,
) -> list[Played]:
    """Play testbed tasks; those that an engine failed are left out."""
    every = []
    for task in tasks:
        name = "agent-{split}-{seed}-{index}".format(**task) + ("-flaky" * bool(task.get("flaky")))
        env = MarketWorld()
        seed_environment(env, seed, f"played:{name}")
        every.append(_Playing(name, task, env, env.reset(task)))
    while going := [p for p in every if not p.state.done and not p.failed]:
        # Twins stand before the same tokens; each draws a replicate of its own.
        items: dict[str, Item] = {}
        who: dict[tuple[str, int], _Playing] = {}
        for p in going:
            ids = chat.prompt(p.state.messages)
            number = int(content_hash([p.name], size=3), 16)
            item = Item(model, ids, sampling, seed=seed, first_replicate=number, intervention=BASE)
            items[p.name] = item
            who[item.key, number] = p
        found: dict[tuple[str, int], Observation] = {}
        take = partial(_keep, found)
        for alone in _rounds(list(items.values())):
            observe("episodes", alone, take)
        for place, p in who.items():
            o = found.get(place)
            if o is None or o.error is not None:
                p.failed = True
                continue
            p.before.append(p.state.messages)
            p.actions.append(o.text)
            p.state = p.env.step(o.text)
    return [
        Played(recorded(p.name, p.task, p.actions, p.before, p.state, p.env.score()),
               tuple(p.env.flakes))
        for p in every
        if not p.failed
    ]  # fmt: skip


def _keep(found: dict[tuple[str, int], Observation], batch: list[Observation]) -> None:
    found.update({(o.key, o.replicate): o for o in batch})


def _rounds(items: Sequence[Item]) -> list[list[Item]]:
    """Items in lists without two of one key: those would be merged into one range."""
    lists: list[dict[str, Item]] = []
    for item in items:
        free = next((x for x in lists if item.key not in x), None)
        if free is None:
            lists.append(free := {})
        free[item.key] = item
    return [list(x.values()) for x in lists]
