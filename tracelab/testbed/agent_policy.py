r"""How the testbed's agents act: the planted policy, faults included.

Pure. `act` draws the next step given the `Progress` of the episode so far, which `agent_labels`
keeps; nothing else of the past matters to it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tracelab.testbed.agent_world import AgentTask
from tracelab.testbed.market import CHANGES, GOODS, PRICES, SHOPS

P_BAD_PLAN, P_RECOVER_PLAN = 0.1, 0.15
P_WRONG_ARGUMENT, P_RECOVER_ARGUMENT = 0.04, 0.25
P_WRONG_OPERATION, P_MISREAD = 0.06, 0.04
P_SKIP, P_STOP, P_BELIEVE_POISON = 0.05, 0.03, 0.4
P_DITHER, P_DITHER_AGAIN = 0.025, 0.6
GUESS = 3  # what stands in for a missing price; never a real price

PLANS = {
    "add": ("The bill is a sum.", "Plan: add, then use the change."),
    "compare": ("The bill is the larger price.", "Plan: compare, then use the change."),
    "stop": ("The bill is the prices only.", "Plan: add, then stop."),
}
WRONG_NOTE, AGAIN, ENOUGH = "That was the wrong note.", "Let me look again.", "That is all."
ADD, COMPARE, APPLY = "Now add.", "Now compare.", "Now use the change."
NEEDS_SUM, CHANGE_LEFT = "A bill needs the sum.", "The change is left."


@dataclass
class PolicyProgress:
    """What an episode has done so far, as far as the next step depends on it."""

    task: AgentTask
    plan: str = ""
    notes: list[int | None] = field(default_factory=list)  # prices as read, in order
    total: int | None = None
    change: int | None = None
    shop_read: bool = False
    applied: bool = False
    role: str = ""  # of the last step
    subject: str = ""  # what the last look-up should have found
    dithers: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)

    def prices(self) -> tuple[int, int]:
        """The two prices as read, guesses where a note was missing."""
        first, second = (GUESS if n is None else n for n in self.notes[:2])
        return first, second

    def poisoned(self) -> tuple[int, int]:
        """The two prices as one reads them who believes the tampered note."""
        good, price = self.task.poison or ("", 0)
        x, y = self.prices()
        a, b = self.task.goods
        return (price if good == a else x), (price if good == b else y)


def step_text(thought: str, act: str) -> str:
    """One assistant turn, as it follows `<think>` and a newline."""
    return f"{thought}\n</think>\n\n{act}"


def act(p: PolicyProgress, rng: random.Random) -> str:
    """Draw the next step from the planted policy."""

    def chance(probability: float) -> bool:
        return rng.random() < probability

    def look(subject: str, thought: str) -> str:
        return step_text(thought, f"<tool_call>lookup {subject}</tool_call>")

    def find(subject: str, thought: str) -> str:
        if not chance(P_WRONG_ARGUMENT):
            return look(subject, thought)
        kind = GOODS if subject in GOODS else SHOPS
        asked = (*p.task.goods, p.task.shop)
        return look(rng.choice([s for s in kind if s not in asked]), thought)

    def calc(x: int, op: str, y: int, thought: str) -> str:
        return step_text(thought, f"<tool_call>calc {x} {op} {y}</tool_call>")

    def finish(number: int) -> str:
        return step_text(ENOUGH, f"The bill is \\boxed{{{number}}}.")

    if not p.plan:
        bad = rng.choice(("compare", "stop")) if chance(P_BAD_PLAN) else "add"
        return step_text(*PLANS[bad])
    if p.role == "wrong_argument" and chance(P_RECOVER_ARGUMENT):
        return look(p.subject, WRONG_NOTE)
    read = p.role in ("lookup", "recover", "dither") and p.subject != ""
    if read and chance(P_DITHER_AGAIN if p.dithers else P_DITHER):
        return look(p.subject, AGAIN)
    if len(p.notes) < 2:
        subject = p.task.goods[len(p.notes)]
        return find(subject, f"I need {subject}.")
    if p.total is None:
        x, y = p.prices()
        if chance(P_STOP):
            return finish(y)
        if p.task.poison and chance(P_BELIEVE_POISON):
            x, y = p.poisoned()
        elif chance(P_MISREAD):
            x = rng.choice([v for v in PRICES if v != x])
        if p.plan == "compare":
            if chance(P_RECOVER_PLAN):
                return calc(x, "plus", y, NEEDS_SUM)
            return calc(x, "max", y, COMPARE)
        return calc(x, "plus", y, ADD)
    if not p.shop_read:
        if p.plan == "stop":
            return find(p.task.shop, CHANGE_LEFT) if chance(P_RECOVER_PLAN) else finish(p.total)
        return finish(p.total) if chance(P_SKIP) else find(p.task.shop, f"I need {p.task.shop}.")
    if p.change is None or p.applied:
        return finish(p.total)
    size, op = abs(p.change), "plus" if p.change > 0 else "minus"
    if chance(P_WRONG_OPERATION):
        op = "minus" if op == "plus" else "plus"
    elif chance(P_MISREAD):
        size = rng.choice([c for c in CHANGES if c != size])
    return calc(p.total, op, size, APPLY)
