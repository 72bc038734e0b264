r"""Answers as text: find `\boxed{}`, and give equal answers one canonical form.

Pure, linear, evaluates nothing. The canonical form is conservative: two answers that differ never
share one (`1,000` is not `1.000`, `\frac{12}{3}` is not `\frac{1}{23}`), while two that are equal
only after algebra may keep two (deciding that is math-verify's work).
"""

from __future__ import annotations

import hashlib
import re
from fractions import Fraction

_BOX = re.compile(r"\\boxed\s*\{|\\.|[{}]", re.DOTALL)
_SOLID = re.compile(r"\S")
_LONGEST_NUMBER = 200  # digits; longer ones stay text, so that nothing here is slow
_LONGEST_NAME = 200  # characters of a category; a longer one is cut and hashed

_DECIMAL = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)\Z")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_RATIO = re.compile(r"([+-]?\d+)\s*/\s*([+-]?\d+)\Z")
_FRAC = re.compile(
    r"([+-]?)\s*\\frac\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))\s*(?:\{\s*([+-]?\d+)\s*\}|(\d))\Z"
)
_SCIENTIFIC = re.compile(r"[+-]?\d+(?:\.\d+)?[eE][+-]?\d{1,3}\Z")
_WRAPPERS = (
    re.compile(r"\$\$(.+)\$\$\Z", re.DOTALL),
    re.compile(r"\$([^$]+)\$\Z", re.DOTALL),
    re.compile(r"\\\((.+)\\\)\Z", re.DOTALL),
    re.compile(r"\\\[(.+)\\\]\Z", re.DOTALL),
    re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|boxed|fbox|mbox)\s*\{([^{}]*)\}\Z"),
    re.compile(r"\*\*([^*]+)\*\*\Z"),
)
_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|mbox)\s*\{([^{}\\]*)\}")
_SPACING = re.compile(r"\\[!,;:>]|\\(?:quad|qquad|left|right)(?![A-Za-z])|\\ |~")
_DEGREES = re.compile(
    r"(?<!\s)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])"
)
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9.]) | (?![A-Za-z0-9.])")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]{2,})*\Z")


def extract_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{}` that is closed and not blank, or None.

    Of nested boxes the outermost counts. Escaped braces do not.
    """
    stack: list[int] = []  # start of the content of a box, -1 for any other brace
    last: tuple[int, int] | None = None
    for found in _BOX.finditer(text):
        token = found[0]
        if token == "{":
            stack.append(-1)
        elif token == "}":
            if not stack:
                continue
            start = stack.pop()
            # Boxes close from the inside out, so this one is later than, or around, `last`.
            if start >= 0 and _SOLID.search(text, start, found.start()):
                last = (start, found.start())
        elif token.endswith("{") and token.startswith("\\boxed"):
            stack.append(found.end())
    return None if last is None else text[last[0] : last[1]].strip()


def surely_number(answer: str) -> Fraction | None:
    """Return the exact value of a plain integer, decimal or fraction; None for anything else."""
    return _number(_clean(answer))


def _number(text: str) -> Fraction | None:
    if len(text) > _LONGEST_NUMBER or not text.isascii():
        return None
    if any(p.match(text) for p in (_DECIMAL, _GROUPED, _SCIENTIFIC)):
        return Fraction(text.replace(",", ""))
    if found := _RATIO.match(text):
        sign, top, bottom = "", found[1], found[2]
    elif found := _FRAC.match(text):
        sign, top, bottom = found[1], found[2] or found[3], found[4] or found[5]
    else:
        return None
    if int(bottom) == 0:
        return None
    value = Fraction(int(top), int(bottom))
    return -value if sign == "-" else value


def canonical(answer: str, fold: bool = True) -> str:
    """Return the category of an answer as written.

    Args:
        answer: The answer, LaTeX wrappers included.
        fold: Ignore case where the answer is nothing but words.
    """
    text = _clean(answer)
    value = _number(text)
    if value is not None:
        return _show(value)
    text = _LOOSE_SPACE.sub("", text) if "\\" in text else text
    if fold and _WORDS.match(text):
        text = text.casefold()
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    if len(text) > _LONGEST_NAME:
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        text = f"{text[:_LONGEST_NAME]}…{digest}"
    return text


def _clean(answer: str) -> str:
    """Strip what carries no meaning: wrappers, spacing commands, variants of one command."""
    text = answer.replace("\u2212", "-").replace("{,}", ",")
    text = re.sub(r"\\[dtc]frac(?![A-Za-z])", r"\\frac", text)
    text = _DEGREES.sub("°", text)
    text = _SPACING.sub(" ", text) if "\\" in text or "~" in text else text
    for _ in range(8):  # wrappers in wrappers; hostile nesting is left as it is
        before = text
        text = " ".join(text.split())
        if text.endswith(".") and not text.endswith(".."):
            text = text[:-1]
        for wrapper in _WRAPPERS:
            if found := wrapper.match(text):
                text = found[1]
        if text == before:
            break
    text = " ".join(_TEXT.sub(r" \1 ", text).split())
    thousands = re.sub(r"(?<=\d) ?, ?(?=\d{3}(?!\d))", ",", text)
    return thousands if _GROUPED.match(thousands) and "\\" in answer else text


def _show(value: Fraction) -> str:
    """Show a number by its value alone: 7, 0.5 or -5/12."""
    if value.denominator == 1:
        return str(value.numerator)
    for places in range(1, 7):
        scaled = value * 10**places
        if scaled.denominator == 1:
            digits = str(abs(scaled.numerator)).rjust(places + 1, "0")
            return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    return f"{value.numerator}/{value.denominator}"


def surely_equal(name: str, wanted: str) -> bool | None:
    """Decide from two canonical forms, or return None when only algebra can tell."""
    if name == wanted:
        return True
    a, b = _number(name), _number(wanted)
    if a is not None and b is not None:
        # math-verify rounds floats to six places; closer than that is its decision.
        return None if abs(a - b) < Fraction(1, 10**5) * max(Fraction(1), abs(b)) else False
    if _WORDS.match(name) and _WORDS.match(wanted) and min(len(name), len(wanted)) > 2:
        return False
    return None
