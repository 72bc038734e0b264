"""A run's log as a judge reads it: numbered steps, hostile text fenced, made to fit a budget.

Every line that a step wrote is quoted, and every name is a JSON string, so that nothing of a run
can pose as a step or as the question. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracelab.core.episode import Step
from tracelab.text.hostile import name_line, quoted, unmarked

_LEAST_CHARS = 40


class Fitted(NamedTuple):
    """A log that fits, and what was shortened to make it so."""

    text: str
    note: str | None


def fit_log(steps: Sequence[Step], budget: int, count: Callable[[str], int]) -> Fitted | None:
    """Write steps out within a token budget.

    Long steps are shortened in the middle, all to the same number of characters, the largest that
    fits; no step is left out, so numbers stay what they are.

    Args:
        steps: What to show.
        budget: Most tokens.
        count: Tokens of a text.

    Returns:
        The log, or None when it does not fit even with 40 characters a step.
    """
    texts = [unmarked(step.text()) for step in steps]

    def log(most: int) -> str:
        return "\n".join(
            f"[step {s.index}] {_who(s)}\n{quoted(_shortened(t, most))}"
            for s, t in zip(steps, texts, strict=True)
        )

    longest = max(map(len, texts), default=0)
    whole = log(longest)
    if len(whole.encode("utf-8", "replace")) <= budget or count(whole) <= budget:
        return Fitted(whole, None)
    lo, hi = min(_LEAST_CHARS, longest), longest
    if count(log(lo)) > budget:
        return None
    while hi - lo > max(1, lo // 50):
        mid = (lo + hi) // 2
        lo, hi = (mid, hi) if count(log(mid)) <= budget else (lo, mid)
    cut = sum(len(t) > lo for t in texts)
    return Fitted(log(lo), f"{cut} of {len(texts)} steps were shortened to {lo} characters.")


def _who(step: Step) -> str:
    name = name_line(step.agent or step.kind)
    if step.kind == "tool" and step.tool and step.tool != step.agent:
        return f"result of tool {name_line(step.tool)}, called by {name}"
    return f"agent {name}" + (" (tool)" if step.kind == "tool" else "")


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = (most + 1) // 2
    tail = most - head
    left_out = len(text) - most
    return f"{text[:head]} [... {left_out} characters left out ...] {text[len(text) - tail :]}"
