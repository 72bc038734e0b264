r"""Answers as text: find `\boxed{}`, and give equal answers one canonical form.

Pure, linear, evaluates nothing. The canonical form is conservative: two answers that differ never
share one (`1,000` is not `1.000`, `\frac{12}{3}` is not `\frac{1}{23}`), while two that are equal
only after algebra may keep two (deciding that is math-verify's work).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction

from tracelab.text.answer.numerals import plain, read_number

_BOX = re.compile(
    r"\\(?:boxed|fbox)\s*\{|\\boxed\s+(?P<bare>[^\s{}$\\]+(?<![.,;:]))|\\.|[{}]", re.DOTALL
)
_SOLID = re.compile(r"\S")
_LONGEST_NAME = 200  # characters of a category; a longer one is cut and hashed

_INTEGER = re.compile(r"-?[1-9]\d{0,17}\Z")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?\Z")
_WRAPPERS = (
    re.compile(r"\$\$(.+)\$\$\Z", re.DOTALL),
    re.compile(r"\$([^$]+)\$\Z", re.DOTALL),
    re.compile(r"\\\((.+)\\\)\Z", re.DOTALL),
    re.compile(r"\\\[(.+)\\\]\Z", re.DOTALL),
    re.compile(
        r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|boldsymbol|bm|boxed|fbox"
        r"|mbox|emph|underline|displaystyle)\s*\{([^{}]*)\}\Z"
    ),
    re.compile(r"\*\*([^*]+)\*\*\Z"),
    re.compile(r"`([^`]+)`\Z"),
)
_TEXT = re.compile(
    r"\\(?:text|textbf|textit|textrm|textnormal|mathrm|mathbf|mathit|boldsymbol|bm|mbox|emph"
    r"|operatorname)\*?\s*\{([^{}\\]*)\}"
)
_COLOUR = re.compile(
    r"\\(?:textcolor|colorbox)\s*\{[^{}]*\}\s*\{((?:[^{}]|\{[^{}]*\})*)\}"
    r"|\\color\s*\{[^{}]*\}\s*|\\(?:displaystyle|textstyle|bf|rm|limits)(?![A-Za-z])\s*"
)
_SPACING = re.compile(
    r"(?<!\\)\\[!,;:> ]|\\(?:quad|qquad|left|right|big|Big|bigg|Bigg|bigl|bigr|Bigl|Bigr|thinspace"
    r"|hspace\{[^{}]*\}|phantom\{[^{}]*\})(?![A-Za-z])|~"
)
_DEGREES = re.compile(
    r"(?<!\s)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ(?![A-Za-z]))|\\degree(?![A-Za-z])"
)
_PERCENT = re.compile(r"(?<=[\d}]) ?(?:\\%|%|percent(?:age)?|per cent|pct\.?)(?![A-Za-z])", re.I)
_SAME = (
    (re.compile(r"\\(?:varnothing|empty)(?![A-Za-z])"), r"\\emptyset"),
    (re.compile(r"\\(?:leq|leqslant)(?![A-Za-z])|<="), r"\\le "),
    (re.compile(r"\\(?:geq|geqslant)(?![A-Za-z])|>="), r"\\ge "),
    (re.compile(r"\\neq(?![A-Za-z])|!="), r"\\ne "),
    (re.compile(r"\\lt(?![A-Za-z])"), "<"),
    (re.compile(r"\\gt(?![A-Za-z])"), ">"),
    (re.compile(r"\\sqrt *\(([^()]*)\)"), r"\\sqrt{\1}"),
    (re.compile(r"\\sqrt *(\d|[a-zA-Z](?![a-zA-Z]))"), r"\\sqrt{\1}"),
    (re.compile(r"\\[dtc]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\(?:ldots|cdots|dotsc)(?![A-Za-z])"), r"\\dots"),
)
_LOOSE_SPACE = re.compile(r"(?<![A-Za-z0-9.]) | (?![A-Za-z0-9.])")
_WORDS = re.compile(r"[^\W\d_]{2,}(?:[ '-][^\W\d_]{2,})*\Z")


_BESIDE = re.compile(
    r"[\s$*]*(?:(?![\w\s]*(?:not?|wait|but|then)\b)[A-Za-z]{0,12}[\s$*]*)(?:,|;|&|\\quad"
    r"|\b(?:and|or|und|oder|et|ou|y|o|e)\b)[\s$*,;]*"
    r"(?:[A-Za-z](?:_\{?\w\}?)?(?:\(\w\))? ?= ?)?[\s$*]*\Z"
)


def extract_boxed(text: str) -> str | None:
    r"""Return the content of the last `\boxed{}` that is closed and not blank, or None.

    Of nested boxes the outermost counts; escaped braces do not. Boxes that are joined in one
    sentence (`\boxed{1} and \boxed{2}`) are one answer, `1, 2`.
    """
    found = boxes(text)
    if not found:
        return None
    last = len(found) - 1
    joined = [last]
    while last > 0 and _BESIDE.match(text[found[last - 1].after : found[last].start][:60]):
        if found[last].start - found[last - 1].after > 60:
            break
        last -= 1
        joined.append(last)
    parts = list(dict.fromkeys(found[i].text for i in reversed(joined)))
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Box:
    """A box: characters `[start, after)` of the text, and what stands in it, stripped."""

    start: int
    after: int
    text: str


def boxes(text: str) -> list[Box]:
    r"""Every `\boxed{}` that is closed and not blank, outermost ones, in order."""
    if "\\boxed" not in text and "\\fbox" not in text:
        return []
    stack: list[tuple[int, int]] = []  # opening and content of a box, (-1, -1) for other braces
    out: list[Box] = []
    for found in _BOX.finditer(text):
        token = found[0]
        if token == "{":
            stack.append((-1, -1))
        elif token == "}":
            if not stack:
                continue
            opening, start = stack.pop()
            if opening >= 0 and _SOLID.search(text, start, found.start()):
                while out and out[-1].start > opening:
                    out.pop()  # boxes close from the inside out
                out.append(Box(opening, found.end(), text[start : found.start()].strip()))
        elif token.endswith("{") and token[1:5] in ("boxe", "fbox"):
            stack.append((found.start(), found.end()))
        elif found["bare"]:
            out.append(Box(found.start(), found.end(), found["bare"]))
    return out


def surely_number(answer: str) -> Fraction | None:
    """Return the exact value of a plain integer, decimal or fraction; None for anything else."""
    return read_number(bare(answer))


def canonical(answer: str, fold: bool = True) -> str:
    """Return the category of an answer as written.

    Args:
        answer: The answer, LaTeX wrappers included.
        fold: Ignore case where the answer is nothing but words.
    """
    if _INTEGER.match(answer):
        return answer
    text = bare(answer)
    value = read_number(text)
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


def bare(answer: str) -> str:
    """Strip what carries no meaning: wrappers, spacing commands, variants of one command."""
    text = plain(answer).replace("{,}", ",")
    if "\\" in text:
        text = _COLOUR.sub(lambda m: m[1] or "", text)
        text = _DEGREES.sub("°", text)
        text = text.replace(r"\$", "$").replace(r"\{", "\\{ ").replace(r"\}", " \\}")
    if "\\" in text or "=" in text:
        for pattern, same in _SAME:
            text = pattern.sub(same, text)
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
    if "\\" in text:
        text = " ".join(_TEXT.sub(r" \1 ", text).split())
    if "%" in text or "p" in text or "P" in text:
        text = _PERCENT.sub("%", text)
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
