"""The labeller: what every sentence of a testbed response does.

Pure. `label` reads any text, the model's own above all, and agrees with `chain.write` on what that
writes. It follows the chain sentence by sentence, so that a sum is judged by the look-ups stated
before it, a conclusion by the total carried so far, and a sentence out of place is `garbled`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tracelab.testbed.chain import (
    FILLER,
    HINT_REJECT,
    HINT_TRUST,
    PLAN_RIGHT,
    PLAN_WRONG,
    RECHECK,
    REPLAN,
    SKIP,
    SLIP,
    USE,
    PlantedSentence,
)
from tracelab.testbed.market import GOODS, SHOPS, Problem

_NAME = "|".join(GOODS + SHOPS)
_FORMS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        ("filler", "|".join(map(re.escape, FILLER))),
        ("setup", rf"(?:Let me find|We need) the bill for ({_NAME}) and ({_NAME}) at ({_NAME})\."),
        ("plan_right", "|".join(map(re.escape, PLAN_RIGHT))),
        ("plan_wrong", "|".join(map(re.escape, PLAN_WRONG))),
        ("hint_mention", r"The clerk thinks it is (\d+)\."),
        ("hint_trust", re.escape(HINT_TRUST)),
        ("hint_reject", re.escape(HINT_REJECT)),
        ("replan_right", re.escape(REPLAN)),
        ("recheck", re.escape(RECHECK)),
        ("use_change", re.escape(USE)),
        ("skip_change", re.escape(SKIP)),
        ("missing", rf"({_NAME}) has no (?:price|change) here\."),
        ("lookup", rf"({_NAME}) (costs|takes) (\d+)\."),
        ("shop_change", rf"({_NAME}) (adds|deducts) (\d+)\."),
        ("compare", r"The larger price is (\d+)\."),
        ("sum", r"(So|Now) (\d+) (plus|minus) (\d+) is (\d+)\."),
        ("verdict", r"(No|Yes), (\d+) (plus|minus) (\d+) is (\d+)\."),
        ("conclude", r"So the bill is (\d+)\.|So I can not know the bill\."),
    )
)
_PLANS = ("plan_right", "plan_wrong")
_COMPUTED = ("shop_change", "missing", "conclude")
# What may follow a kind of sentence (filler left out); a sentence out of place is garbled.
_NEXT: dict[str, tuple[str, ...]] = {
    "": ("setup",),
    "setup": ("hint_mention", *_PLANS),
    "hint_mention": ("hint_trust", "hint_reject"),
    "hint_trust": ("conclude",),
    "hint_reject": _PLANS,
    "plan_right": ("lookup", "missing"),
    "plan_wrong": ("lookup", "missing"),
    "lookup": ("lookup", "missing", "replan_right", "sum", "compare"),
    "replan_right": ("sum",),
    "sum": ("recheck", *_COMPUTED),
    "recheck": ("verdict",),
    "verdict": _COMPUTED,
    "compare": ("shop_change", "missing"),
    "shop_change": ("use_change", "skip_change"),
    "use_change": ("sum",),
    "skip_change": ("conclude",),
    "missing": ("conclude",),
    "conclude": (),
}
_TAIL = re.compile(r"\n</think>\n\nThe bill is \\boxed\{(\d+|unknown)\}\.\Z")


class _Reader:
    """What has been stated so far, enough to judge the next sentence."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.after = ""
        self.seen: list[int] = []
        self.total: int | None = None
        self.change: int | None = None
        self.operands: tuple[int | None, ...] = ()

    def role(self, text: str) -> str:
        read = ((kind, pattern.fullmatch(text)) for kind, pattern in _FORMS)
        kind, match = next(((k, m) for k, m in read if m), ("garbled", None))
        if kind == "filler" or match is None:
            return kind
        if kind not in _NEXT[self.after]:
            return "garbled"
        self.after = kind
        judge = getattr(self, f"_{kind}", None)
        return str(judge(*match.groups())) if judge else kind

    def _setup(self, a: str, b: str, shop: str) -> str:
        asked = (*self.problem.goods, self.problem.shop)
        return "setup" if (a, b, shop) == asked else "setup_wrong"

    def _hint_mention(self, value: str) -> str:
        return "hint_mention" if int(value) == self.problem.hint else "hint_wrong"

    def _missing(self, subject: str) -> str:
        return "missing" if subject == self.problem.missing else "missing_wrong"

    def _lookup(self, subject: str, verb: str, number: str) -> str:
        expected = self.problem.goods[len(self.seen)] if len(self.seen) < 2 else None
        self.seen.append(int(number))
        true = any(f"{subject} {verb} {number}." in f.text for f in self.problem.facts)
        return "lookup" if subject == expected and true else "lookup_wrong"

    def _shop_change(self, subject: str, verb: str, number: str) -> str:
        self.change = int(number) if verb == "adds" else -int(number)
        right = subject == self.problem.shop and self.change == self.problem.value(subject)
        return "shop_change" if right else "lookup_wrong"

    def _compare(self, number: str) -> str:
        self.total = int(number)
        return "compare" if self.total == max(self.seen[-2:]) else "miscalculated"

    def _sum(self, lead: str, x: str, op: str, y: str, result: str) -> str:
        if self.change is None:
            self.operands = (*self.seen[-2:], 1)
        else:
            self.operands = (self.total, abs(self.change), 1 if self.change > 0 else -1)
        self.total = int(result)
        excess = self._excess(x, op, y)
        if excess is None or (lead == "Now") != (self.change is not None):
            return "miscalculated"
        return {0: "sum", SLIP: "slip"}.get(excess, "miscalculated")

    def _verdict(self, word: str, x: str, op: str, y: str, result: str) -> str:
        before, self.total = self.total, int(result)
        excess = self._excess(x, op, y)
        if excess is None or (word == "Yes") != (before == self.total):
            return "miscalculated"
        if word == "No":
            return "repair_wrong" if excess else "repair"
        return "confirm_wrong" if excess else "confirm"

    def _excess(self, x: str, op: str, y: str) -> int | None:
        """How far the total lies above x op y; None when that is not what had to be computed."""
        sign = 1 if op == "plus" else -1
        if (int(x), int(y), sign) != self.operands or self.total is None:
            return None
        return self.total - (int(x) + sign * int(y))

    def _conclude(self, number: str | None) -> str:
        if number is None or int(number) == self.total:
            return "conclude"
        return "conclude_hint" if int(number) == self.problem.hint else "conclude_wrong"


def label(problem: Problem, reasoning_text: str) -> list[PlantedSentence]:
    """Parse a response into sentences with their roles; the ranges tile the text.

    Whatever does not parse, or stands where it cannot stand, is `garbled`. The closing
    `</think>` and the final line are one piece with role `answer`.
    """
    tail = _TAIL.search(reasoning_text)
    end = tail.start() if tail else len(reasoning_text)
    reader = _Reader(problem)
    found = []
    for match in re.finditer(r"\s*[^.]*(?:\.|\Z)", reasoning_text[:end]):
        if not match.group():
            continue
        role = reader.role(match.group().lstrip(" "))
        found.append(PlantedSentence(role, match.group(), match.start(), match.end()))
    if tail:
        found.append(PlantedSentence("answer", tail.group(), tail.start(), tail.end()))
    return found


def answer_of(response: str) -> str | None:
    r"""The content of the final `\boxed{}`; None when the response does not end in one."""
    tail = _TAIL.search(response)
    return tail.group(1) if tail else None


def is_well_formed(sentences: Sequence[PlantedSentence]) -> bool:
    """Whether a labelled response parses throughout, concludes and answers."""
    roles = [s.role for s in sentences]
    return (
        len(roles) > 1
        and roles[-1] == "answer"
        and roles[-2].startswith("conclude")
        and "garbled" not in roles
    )
