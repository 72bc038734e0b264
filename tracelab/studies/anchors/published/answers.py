r"""The published normal form of answers, and the published way to force one.

Kept because the published numbers depend on it; `tracelab.text.answer` is what tracelab
itself uses. Known collisions of the published form: `\frac{12}{3}` and `\frac{1}{23}` are one
answer, `1,000` and `1.000` are one, and neither is `1000`. Pure; linear in the
text, unlike the original.
"""

from __future__ import annotations

import re

FORCED_SUFFIX = "\n</think>\n\nTherefore, the final answers is \\boxed{"
"""What the published recipe appends to a prefix to force an answer (their wording)."""

_NUMBER = re.compile(r"(\d++)(?:[.,](\d++))?")
_GROUP = re.compile(r"\{([^{}]+)\}")
_DATE = re.compile(r"(?<=[a-z])\\+(?=\d)")


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
