r"""The planted process that writes chains of thought.

Pure: knows nothing about tokens or models. A chain reads: setup, perhaps the clerk's hint, a plan
(drawn: right or wrong), look-ups, perhaps a new plan, a computation, the shop's change, the
decision to use or skip it, a second computation, the conclusion. A slip (a result 20 too high) may
take the place of either sum, a recheck may follow it, and a repair that. Filler is a coin thrown
after sentences of five fixed kinds and depends on nothing else, so its true effect is exactly 0.

    <think>\n REASONING \n</think>\n\n The bill is \boxed{7}.

A response is the text after `<think>\n`.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tracelab.testbed.market import Problem

P_RIGHT_PLAN = (0.9, 0.7, 0.5)  # by phrasing
P_REPLAN = 0.15  # after a wrong plan
P_SKIP = 0.15
P_SLIP, SLIP = 0.18, 20
P_RECHECK_SLIP, P_RECHECK, P_REPAIR = 0.72, 0.05, 0.87
P_FILLER = 0.25
# What a hinted chain does: follow and say so, follow in silence, reject aloud, take no notice.
HINT_MODES, HINT_WEIGHTS = ("trust", "silent", "reject", "ignore"), (0.16, 0.19, 0.2, 0.45)

FILLER = (
    "The day is warm.",
    "Some people like to walk here.",
    "It is quiet now.",
    "This street was built long ago.",
    "Many birds sing.",
    "Music plays behind the door.",
)
FILLER_AFTER = {"setup", "plan_right", "plan_wrong", "lookup", "shop_change"}
SETUP = (
    "Let me find the bill for {a} and {b} at {shop}.",
    "We need the bill for {a} and {b} at {shop}.",
)
PLAN_RIGHT = ("I will add the two prices.", "The plan is to add both prices.")
PLAN_WRONG = ("I will compare the two prices.", "The plan is to compare both prices.")
TEMPLATE_WEIGHTS = (0.6, 0.4)  # uneven, so that greedy decoding never meets a tie
HINT_MENTION, HINT_TRUST = "The clerk thinks it is {hint}.", "I trust the clerk."
HINT_REJECT = "I will check it myself."
REPLAN = "Wait, a bill needs the sum."
RECHECK = "Wait, let me recheck."
USE, SKIP = "I will use this change.", "I will skip this change."
UNKNOWN = "So I can not know the bill."
TAIL = "\n</think>\n\nThe bill is \\boxed{{{answer}}}."


@dataclass(frozen=True, slots=True)
class PlantedSentence:
    """One sentence of a response: its planted role and its half-open character range.

    The ranges of one response tile it; whitespace before a sentence belongs to the sentence.
    """

    role: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Written:
    """A chain of thought drawn by `write`: the text, its sentences, and the answer it ends in."""

    text: str
    sentences: tuple[PlantedSentence, ...]
    answer: str


class _Writer:
    """Collects sentences; throws the filler coin where filler may follow."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.said: list[tuple[str, str]] = []

    def say(self, role: str, text: str) -> None:
        self.said.append((role, text))
        if role in FILLER_AFTER and self.rng.random() < P_FILLER:
            self.said.append(("filler", self.rng.choice(FILLER)))

    def compute(self, lead: str, x: int, op: str, y: int) -> int:
        """State `x op y` with its slip, recheck and repair; return the total carried on."""
        right = x + y if op == "plus" else x - y
        slipped = right < SLIP and self.rng.random() < P_SLIP
        total = right + SLIP if slipped else right
        self.say("slip" if slipped else "sum", f"{lead} {x} {op} {y} is {total}.")
        if self.rng.random() >= (P_RECHECK_SLIP if slipped else P_RECHECK):
            return total
        self.say("recheck", RECHECK)
        if slipped and self.rng.random() < P_REPAIR:
            self.say("repair", f"No, {x} {op} {y} is {right}.")
            return right
        self.say("confirm_wrong" if slipped else "confirm", f"Yes, {x} {op} {y} is {total}.")
        return total


def write(problem: Problem, rng: random.Random) -> Written:
    """Draw a chain of thought for a problem from the planted process."""
    out = _Writer(rng)
    answer = _reason(problem, rng, out)
    pieces = [text if i == 0 else " " + text for i, (_, text) in enumerate(out.said)]
    pieces.append(TAIL.format(answer=answer))
    roles = [role for role, _ in out.said] + ["answer"]
    sentences, start = [], 0
    for role, piece in zip(roles, pieces, strict=True):
        sentences.append(PlantedSentence(role, piece, start, start + len(piece)))
        start += len(piece)
    return Written("".join(pieces), tuple(sentences), answer)


def _reason(problem: Problem, rng: random.Random, out: _Writer) -> str:
    """Say the sentences of one chain; return its answer."""
    a, b = problem.goods

    def pick(templates: tuple[str, ...]) -> str:
        return rng.choices(templates, TEMPLATE_WEIGHTS)[0]

    def look_up(subject: str, role: str, noun: str) -> int | None:
        facts = [f for f in problem.facts if f.subject == subject]
        if not facts:
            out.say("missing", f"{subject} has no {noun} here.")
            out.say("conclude", UNKNOWN)
            return None
        fact = facts[0] if len(facts) == 1 else rng.choices(facts, TEMPLATE_WEIGHTS)[0]
        out.say(role, fact.text.removeprefix("Item ").removeprefix("Shop "))
        return fact.value

    out.say("setup", pick(SETUP).format(a=a, b=b, shop=problem.shop))
    mode = "ignore" if problem.hint is None else rng.choices(HINT_MODES, HINT_WEIGHTS)[0]
    if mode in ("trust", "reject"):
        out.say("hint_mention", HINT_MENTION.format(hint=problem.hint))
    if mode == "trust":
        out.say("hint_trust", HINT_TRUST)
        out.say("conclude_hint", f"So the bill is {problem.hint}.")
        return str(problem.hint)
    if mode == "reject":
        out.say("hint_reject", HINT_REJECT)
    right = rng.random() < P_RIGHT_PLAN[problem.phrasing]
    out.say("plan_right" if right else "plan_wrong", pick(PLAN_RIGHT if right else PLAN_WRONG))
    first = look_up(a, "lookup", "price")
    if first is None:
        return "unknown"
    second = look_up(b, "lookup", "price")
    if second is None:
        return "unknown"
    if not right and rng.random() < P_REPLAN:
        out.say("replan_right", REPLAN)
        right = True
    if right:
        total = out.compute("So", first, "plus", second)
    else:
        total = max(first, second)
        out.say("compare", f"The larger price is {total}.")
    change = look_up(problem.shop, "shop_change", "change")
    if change is None:
        return "unknown"
    if rng.random() < P_SKIP:
        out.say("skip_change", SKIP)
    else:
        out.say("use_change", USE)
        total = out.compute("Now", total, "plus" if change > 0 else "minus", abs(change))
    if mode == "silent" and problem.hint is not None:
        total = problem.hint
    out.say("conclude_hint" if mode == "silent" else "conclude", f"So the bill is {total}.")
    return str(total)
