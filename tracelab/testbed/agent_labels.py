r"""What the steps of an agent episode did, and which one decided it.

Pure. `read` labels the steps of any episode, the model's own above all. Roles: `plan_right`,
`lookup`, `calc`, `answer`, `guess` (for a missing note), `recover`, `dither`, `garbled`, and the
faults of `FAULTS`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tracelab.testbed.agent_policy import (
    ADD,
    AGAIN,
    APPLY,
    CHANGE_LEFT,
    COMPARE,
    ENOUGH,
    NEEDS_SUM,
    PLANS,
    WRONG_NOTE,
    PolicyProgress,
    act,
)
from tracelab.testbed.agent_world import (
    CALL,
    FINAL,
    MAX_TURNS,
    AgentTask,
    MarketEnvironment,
    compute,
)

FAULTS = frozenset(
    "plan_wrong wrong_argument wrong_operation misread skipped_step premature_stop "
    "poisoned_use".split()
)


@dataclass(frozen=True, slots=True)
class AgentStep:
    """One assistant turn and its role; `text` follows `<think>` and a newline."""

    index: int
    agent: str
    role: str
    text: str


@dataclass(frozen=True, slots=True)
class AgentEpisode:
    """A finished episode, read.

    Attributes:
        cause: None when it succeeded; a fault's role when exactly one unrecovered fault explains
            the failure; else `several` (faults, or a fault and wasted turns), `diffuse` (turns
            wasted up to the limit), `impossible`, or `unexplained` (unreadable steps).
        decisive_step: Index of that one fault's step; None for every other cause.
    """

    task: AgentTask
    steps: tuple[AgentStep, ...]
    success: bool
    cause: str | None
    decisive_step: int | None


_STEP = re.compile(r"([^<>\n]+)\n</think>\n\n([^\n]+)")


def is_well_formed_turn(text: str) -> bool:
    """Whether a turn is a thought and then a plan, a call that the tools take, or an answer."""
    match = _STEP.fullmatch(text)
    if not match:
        return False
    said = match[2]
    return match.groups() in PLANS.values() or bool(CALL.fullmatch(said) or FINAL.fullmatch(said))


def advance(p: PolicyProgress, index: int, text: str) -> str:
    """Take a step into account; return its role."""
    role = _judge(p, text)
    if role == "recover" and p.faults:
        p.faults.pop()
    if role in FAULTS:
        p.faults.append((index, role))
    p.role = role
    return role


def _judge(p: PolicyProgress, text: str) -> str:
    """The role of the next step; moves everything of `p` but its role and faults."""
    match = _STEP.fullmatch(text)
    if not match:
        return "garbled"
    thought, said = match.groups()
    if not p.plan:
        p.plan = next((k for k, v in PLANS.items() if v == (thought, said)), "")
        return "garbled" if not p.plan else "plan_right" if p.plan == "add" else "plan_wrong"
    final, call = FINAL.fullmatch(said), CALL.fullmatch(said)
    if final:
        return _judge_final(p, thought, int(final[1]))
    if call and call[2]:
        return _judge_lookup(p, thought, call[2])
    if call:
        return _judge_calc(p, thought, int(call[3]), call[4], int(call[5]))
    return "garbled"


def _judge_lookup(p: PolicyProgress, thought: str, subject: str) -> str:
    note = re.search(r"(\w+) (costs|adds|deducts) (\d+)", p.task.notes.get(subject, ""))
    value = None if note is None else -int(note[3]) if note[2] == "deducts" else int(note[3])
    repeats = subject == p.subject and thought in (AGAIN, WRONG_NOTE)
    # Calling a right note wrong wastes a turn and does no other harm.
    again = repeats and not (thought == WRONG_NOTE and p.role == "wrong_argument")
    if repeats:
        p.dithers += again
        if p.subject == p.task.shop:
            p.change = value
        else:
            p.notes[-1] = value
        return "dither" if again else "recover"
    wanted = p.task.goods[len(p.notes)] if len(p.notes) < 2 else p.task.shop
    shop_time = wanted == p.task.shop
    if shop_time and (p.total is None or p.shop_read):
        return "garbled"
    late = thought == CHANGE_LEFT and p.plan == "stop" and shop_time
    if thought != f"I need {wanted}." and not late:
        return "garbled"
    p.subject = wanted
    if shop_time:
        p.change, p.shop_read = value, True
    else:
        p.notes.append(value)
    if late:
        p.plan = "add"
        p.faults = [f for f in p.faults if f[1] != "plan_wrong"]
    return "lookup" if subject == wanted else "wrong_argument"


def _judge_calc(p: PolicyProgress, thought: str, x: int, op: str, y: int) -> str:
    result = compute(x, op, y)
    p.subject = ""
    if p.total is None and len(p.notes) == 2:
        p.total = result
        recovers = thought == NEEDS_SUM and p.plan == "compare"
        if thought not in ((NEEDS_SUM, COMPARE) if p.plan == "compare" else (ADD,)):
            return "garbled"
        if recovers:
            p.faults = [f for f in p.faults if f[1] != "plan_wrong"]
        if op != ("max" if thought == COMPARE else "plus"):
            return "wrong_operation"
        if (x, y) == p.prices():
            return "guess" if None in p.notes else "calc"
        return "poisoned_use" if p.task.poison and (x, y) == p.poisoned() else "misread"
    if thought != APPLY or p.change is None or p.applied:
        return "garbled"
    before, p.total, p.applied = p.total, result, True
    if (x, y) != (before, abs(p.change)):
        return "misread"
    return "calc" if op == ("plus" if p.change > 0 else "minus") else "wrong_operation"


def _judge_final(p: PolicyProgress, thought: str, number: int) -> str:
    if thought != ENOUGH or len(p.notes) < 2:
        return "garbled"
    if p.total is None:
        return "premature_stop"
    if number != p.total:
        return "misread"
    if p.applied or p.plan == "stop" or (p.shop_read and p.change is None):
        return "answer"
    return "premature_stop" if p.shop_read else "skipped_step"


def read(task: AgentTask, steps: Sequence[str]) -> AgentEpisode:
    """Label the steps of an episode and find what decided it.

    A fault is decisive only if undoing it would have saved the episode (`flawless`).
    """
    env, p = resumed(task, steps[:0])
    labelled = []
    for i, text in enumerate(steps):
        labelled.append(AgentStep(i, "worker" if i else "planner", advance(p, i, text), text))
        env.step(text)
    success = env.score() == 1.0
    cause, decisive = None, None
    if not success:
        if task.hidden:
            cause = "impossible"
        elif not p.faults:
            cause = "diffuse" if len(steps) >= MAX_TURNS else "unexplained"
        elif len(p.faults) == 1 and flawless(task, steps[: p.faults[0][0]]) == 1.0:
            decisive, cause = p.faults[0]
        else:
            cause = "several"
    return AgentEpisode(task, tuple(labelled), success, cause, decisive)


def resumed(task: AgentTask, steps: Sequence[str]) -> tuple[MarketEnvironment, PolicyProgress]:
    """The environment and the progress after some steps."""
    env, p = MarketEnvironment(), PolicyProgress(task)
    env.restore(task, steps)
    for i, text in enumerate(steps):
        advance(p, i, text)
    return env, p


def play(task: AgentTask, rng: random.Random, steps: Sequence[str] = ()) -> list[str]:
    """Draw an episode from the planted policy, after given first steps; return all its steps."""
    env, p = resumed(task, steps)
    while not env.done:
        text = act(p, rng)
        advance(p, len(env.steps), text)
        env.step(text)
    return env.steps


class NoFaults(random.Random):
    """Every coin of the policy falls on the side without a fault or a detour."""

    def random(self) -> float:
        """Above every probability."""
        return 1.0


def flawless(task: AgentTask, steps: Sequence[str]) -> float:
    """The score when a policy without faults takes over after some steps."""
    env, _ = resumed(task, play(task, NoFaults(), steps))
    return env.score()
