r"""Answers as Thought Anchors reads them: first `\boxed{}`, loose normalisation, string verdict.

Kept because the published numbers depend on it; `tracelab.text.answers` is what tracelab itself
uses. Known collisions of the published form: `\frac{12}{3}` and `\frac{1}{23}` are one answer,
`1,000` and `1.000` are one, and neither is `1000`. Pure; linear in the text, unlike the original.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tracelab.core.item import UNANSWERED, Outcome

FORCED_SUFFIX = "\n</think>\n\nTherefore, the final answers is \\boxed{"
"""What the published recipe appends to a prefix to force an answer (their wording)."""

_BOX = "\\boxed{"
_BRACE = re.compile(r"[{}]")
_NUMBER = re.compile(r"(\d++)(?:[.,](\d++))?")
_GROUP = re.compile(r"\{([^{}]+)\}")
_DATE = re.compile(r"(?<=[a-z])\\+(?=\d)")


def first_boxed(text: str) -> str:
    r"""Return the content of the first `\boxed{}` that is not empty; "" when there is none.

    Braces are counted, escaped ones too. A box that is never closed holds the rest of the text.
    """
    at = text.find(_BOX)
    while at >= 0:
        start, end, depth = at + len(_BOX), len(text), 1
        for brace in _BRACE.finditer(text, start):
            depth += 1 if brace[0] == "{" else -1
            if depth == 0:
                end = brace.start()
                break
        if end > start:
            return text[start:end]
        at = text.find(_BOX, start)
    return ""


def normalize_answer(answer: str) -> str:
    r"""Return the published normal form of an answer: the categories of its distributions.

    Lower case; one kind of fraction; no white space, `\%` or `{,}`; `\times`, `\cdot` → `*`; a
    comma between digits is a decimal point; innermost braces dropped; `\pi` → `pi`; no `\text`.
    It is not idempotent: every pass drops one more level of braces.
    """
    text = "".join(answer.lower().split())
    for old, new in (
        ("dfrac", "frac"), ("tfrac", "frac"), ("\\%", ""), ("{,}", ""),
        ("\\times", "*"), ("\\cdot", "*"),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = _NUMBER.sub(lambda m: m[1] if m[2] is None else f"{m[1]}.{m[2]}", text)
    text = _GROUP.sub(r"\1", text).replace("\\pi", "pi")
    # The brace that `\text{…}` needs is usually gone by now; what is left of it goes here.
    text = re.sub(r"\\(?:text|mathrm)\{([^{}]+)\}", r"\1", text)
    return _DATE.sub("", text).replace("\\text", "")


def is_correct(
    answer: str, reference: str, algebra: Callable[[str, str], bool] | None = None
) -> bool:
    """Decide as published: equal normal forms, else whatever the algebra says.

    Args:
        answer: As written.
        reference: As written.
        algebra: Asked when the normal forms differ (the original asks SymPy, in process; give
            `MathEquality.equal` for a helper that can be killed). None stops at the strings,
            which on the published base traces is enough. What it raises is passed on.
    """
    if normalize_answer(answer) == normalize_answer(reference):
        return True
    return algebra is not None and algebra(answer, reference)


def grade(
    text: str, reference: str | None, algebra: Callable[[str, str], bool] | None = None
) -> Outcome:
    """Grade a whole response as published.

    Args:
        text: Kept prefix and generated text. For a forced answer the original also searches the
            prompt; give it here to reproduce that.
        reference: The correct answer; without one nothing is correct.
        algebra: As for `is_correct`.

    Returns:
        The published normal form as `answer`. Without an answer the status is `unanswered` and
        the reward 0; the published figures leave such rollouts out (`compat.anchor_figures`).
    """
    answer = first_boxed(text)
    if not answer:
        return Outcome(answer=UNANSWERED, reward=0.0, status="unanswered")
    right = bool(reference) and is_correct(answer, str(reference), algebra)
    return Outcome(answer=normalize_answer(answer), reward=float(right), status="graded")
