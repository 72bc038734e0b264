"""A run's log as a judge reads it: numbered steps, hostile text fenced, made to fit a budget.

Every line that a step wrote is quoted, so that no content can pose as a step or as the question.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tracelab.core.episode import Step

_LEAST_CHARS = 40
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


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
    texts = [plain(step.text()) for step in steps]

    def log(most: int) -> str:
        return "\n".join(
            f"[step {s.index}] {_who(s)}\n{_quoted(_shortened(t, most))}"
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


def plain(text: str) -> str:
    """Text without control characters and lone surrogates, which no request could carry."""
    return _CONTROL.sub("\ufffd", text)


def _who(step: Step) -> str:
    name = " ".join(plain(step.agent or step.kind).split())[:100]
    if step.kind == "tool" and step.tool and step.tool != step.agent:
        tool = " ".join(plain(step.tool).split())[:100]
        return f"result of tool {tool}, called by {name}"
    return f"agent {name}" + (" (tool)" if step.kind == "tool" else "")


def _shortened(text: str, most: int) -> str:
    if len(text) <= most:
        return text
    head = (most + 1) // 2
    tail = most - head
    left_out = len(text) - most
    return f"{text[:head]} [... {left_out} characters left out ...] {text[len(text) - tail :]}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.split("\n"))
