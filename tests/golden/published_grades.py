r"""How Thought Anchors grades: first `\boxed{}`, loose normalisation, string verdict."""

from __future__ import annotations

import re
from collections.abc import Callable

from tracelab.core.item import UNANSWERED, Outcome
from tracelab.studies.anchors.published.answers import normalize_answer

_BOX = "\\boxed{"
_BRACE = re.compile(r"[{}]")


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
        the reward 0; the published figures leave such rollouts out.
    """
    answer = first_boxed(text)
    if not answer:
        return Outcome(answer=UNANSWERED, reward=0.0, status="unanswered")
    right = bool(reference) and is_correct(answer, str(reference), algebra)
    return Outcome(answer=normalize_answer(answer), reward=float(right), status="graded")
