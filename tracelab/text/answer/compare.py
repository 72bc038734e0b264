r"""Are two answers equal? What reading alone can tell, and what only algebra can.

`compare` reads both as numbers with units, numerals of a base, ranges (intervals, inequalities,
unions), lists, sets and tuples, assignments, times, dates, options or words, and compares like
with like, part by part. A part that it cannot decide goes to `leaf`: nothing here, math-verify in
the grader's helper process. A verdict is

- `equal`, `different`: certain;
- `undecided`: the two can be meant as the same and as different things (`50%` and `50`, `5 people`
  and `5 students`, `101` and `101_2`), so nobody should count it as either;
- `algebra`: a leaf would have to tell.

Pure; evaluates nothing; bounded in the length of the answers, which are hostile text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from tracelab.text.answer.forms import bare
from tracelab.text.answer.measures import measure, split_measure
from tracelab.text.answer.numerals import approximates, read_number, readings

__all__ = ["Leaf", "Verdict", "compare", "surely_equal"]

Verdict = Literal["equal", "different", "undecided", "algebra"]
Leaf = Callable[[str, str], Verdict]

_LONGEST = 2000  # characters; what is longer is no formula
_MOST = 40  # parts of a list that are matched with one another
_DEPTH = 5


def compare(answer: str, target: str, leaf: Leaf | None = None) -> Verdict:
    """Compare two answers as written.

    Args:
        answer: One; LaTeX wrappers and all.
        target: The other.
        leaf: Decides what is left; default: `algebra`.
    """
    a, b = bare(answer), bare(target)
    if max(len(a), len(b)) > _LONGEST:
        return "equal" if a == b else "different"
    return _Comparison(leaf or (lambda a, b: "algebra")).pair(a, b)


def surely_equal(answer: str, target: str) -> bool | None:
    """Whether two answers are equal, or None where reading them cannot tell."""
    return {"equal": True, "different": False}.get(compare(answer, target))


# parts of a formula

_OPEN, _CLOSE = "([{", ")]}"
_SPLIT = re.compile(r"\\(?:left|right)?[{}|]|\\[A-Za-z]+|\\.|.", re.DOTALL)
_JOIN = re.compile(r",|;|\b(?:and|or)\b|\\(?:text|mathrm) ?\{ ?(?:and|or) ?\}|\\lor|\\vee|&", re.I)


def _top(text: str, separator: re.Pattern[str]) -> list[str]:
    """Split at separators outside of all brackets."""
    depth, start, parts = 0, 0, []
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and text[at + 1 : at + 2] in ("{", "}"):
            char = text[at + 1]
            at += 1
        if char in _OPEN:
            depth += 1
        elif char in _CLOSE:
            depth = max(0, depth - 1)
        elif depth == 0 and (found := separator.match(text, at)):
            parts.append(text[start:at].strip())
            at = start = found.end()
            continue
        at += 1
    return [*parts, text[start:].strip()]


def _brackets(text: str) -> tuple[str, str, str] | None:
    r"""(opener, inside, closer) of a text that one pair of brackets encloses; `\{` is `{`."""
    text = text.replace(r"\langle", "(").replace(r"\rangle", ")")
    for opener in (r"\{", "{", "(", "[", "]"):
        if text.startswith(opener):
            break
    else:
        return None
    closer = r"\}" if opener == r"\{" else text[-1]
    if not text.endswith(closer) or closer[-1] not in ")]}[" or len(text) < 2:
        return None
    inside = text[len(opener) : len(text) - len(closer)]
    if opener == "]" or closer == "[":  # ]a, b[
        return opener, inside.strip(), closer
    depth = 0
    for i, char in enumerate(text[len(opener) - 1 :], len(opener) - 1):
        depth += (char in _OPEN) - (char in _CLOSE)
        if depth == 0 and i < len(text) - 1:
            return None
    return opener[-1], inside.strip(), closer[-1]


# ranges

_INFINITY = re.compile(r"\+? ?(?:\\infty|\\infin|infinity|inf|oo)\Z", re.I)
_RELATION = re.compile(r"(<|>|\\le(?![A-Za-z])|\\ge(?![A-Za-z])|\\ne(?![A-Za-z])|≠)")
_UNION = re.compile(r"\\cup(?![A-Za-z])|\bU\b|\bunion\b|\\bigcup(?![A-Za-z])")
_EITHER = re.compile(
    r"\\cup(?![A-Za-z])|\bor\b|,|;|\\lor(?![A-Za-z])|\\vee(?![A-Za-z])|\bU\b", re.I
)
_ALSO = re.compile(r"\band\b|\\land(?![A-Za-z])|\\wedge(?![A-Za-z])|&", re.I)
_VARIABLE = re.compile(r"\\?[A-Za-z]+(?:_\{?\w+\}?)?(?: ?\([A-Za-z]\))?\Z")
_MEMBER = re.compile(
    r"(\\?[A-Za-z]+(?:_\{?\w+\}?)?(?: ?\([A-Za-z]\))?) ?(?:\\in(?![A-Za-z])|:) ?(.+)\Z"
)
_BUILDER = re.compile(
    r"\\?\{ ?\\?[A-Za-z]+ ?(?:\\in ?\\mathbb ?\{?R\}? ?)?(?:\\mid|\||:) ?(.+?) ?\\?\}\Z"
)
_REALS = re.compile(
    r"\\mathbb ?\{? ?R ?\}?|\\R\b|all real numbers|all reals|the reals|real numbers"
)
_WITHOUT = re.compile(r"(.+?) ?(?:\\setminus|\\backslash|\\smallsetminus|except) ?(.+)\Z")


@dataclass(frozen=True, slots=True)
class _Span:
    """A range of numbers; None is infinity."""

    lo: str | None
    lo_open: bool
    hi: str | None
    hi_open: bool


_ALL = _Span(None, True, None, True)


@dataclass(frozen=True, slots=True)
class _Ranges:
    spans: tuple[_Span, ...]
    variable: str = ""
    sure: bool = True  # no other reading: `(1, 2)` is also a point


def _ranges(text: str, depth: int = 0) -> _Ranges | None:
    if depth > 3:
        return None
    if found := _BUILDER.match(text):
        text = found[1]
    if found := _MEMBER.match(text):
        inner = _ranges(found[2], depth + 1)
        return None if inner is None else replace(inner, variable=found[1], sure=True)
    if _REALS.fullmatch(text):
        return _Ranges((_ALL,))
    if found := _WITHOUT.match(text):
        base = _ranges(found[1], depth + 1)
        holes = _top(found[2].strip("\\{} "), re.compile(","))
        if base is None or base.spans != (_ALL,):
            return None
        return _Ranges(_punched(holes))
    pieces = _top(text, _UNION)
    if len(pieces) > 1:
        return _union([_ranges(p, depth + 1) or _points(p) for p in pieces])
    if _RELATION.search(text):
        return _inequality(text, depth)
    return _interval(text)


def _union(parts: Sequence[_Ranges | None]) -> _Ranges | None:
    spans: list[_Span] = []
    names = set()
    for part in parts:
        if part is None:
            return None
        spans.extend(part.spans)
        names.add(part.variable)
    names.discard("")
    return _Ranges(tuple(spans), names.pop() if len(names) == 1 else "")


def _points(text: str) -> _Ranges | None:
    found = _brackets(text)
    if found is None or found[0] != "{":
        return None
    items = _top(found[1], re.compile(","))
    return _Ranges(tuple(_Span(i, False, i, False) for i in items))


def _punched(holes: Sequence[str]) -> tuple[_Span, ...]:
    values = [(read_number(h), h) for h in holes]
    if all(v is not None for v, _ in values):
        values.sort(key=lambda v: v[0] or Fraction(0))
    edges = [None, *(h for _, h in values), None]
    return tuple(_Span(a, True, b, True) for a, b in zip(edges, edges[1:], strict=False))


def _interval(text: str) -> _Ranges | None:
    found = _brackets(text)
    if found is None or found[0] == "{":
        return None
    ends = _top(found[1], re.compile(",|;"))
    if len(ends) != 2:
        return None
    lo, hi = (None if _infinite(e) else e for e in ends)
    if ends[0] and ends[0][0] == "-" and _infinite(ends[0][1:].strip()):
        lo = None
    opened, closed = found[0] in "(]", found[2] in ")["
    sure = (found[0], found[2]) not in (("(", ")"), ("[", "]")) or lo is None or hi is None
    return _Ranges((_Span(lo, lo is None or opened, hi, hi is None or closed),), "", sure)


def _infinite(text: str) -> bool:
    return _INFINITY.match(text) is not None


def _inequality(text: str, depth: int) -> _Ranges | None:
    both = _top(text, _ALSO)
    if len(both) == 2:
        a, b = (_ranges(p, depth + 1) for p in both)
        return None if a is None or b is None else _meet(a, b)
    either = [p for p in _top(text, _EITHER) if p]
    if len(either) > 1:
        return _union([_ranges(p, depth + 1) for p in either])
    parts = [p.strip() for p in _RELATION.split(text)]
    if len(parts) == 3:
        left, sign, right = parts
        if _VARIABLE.match(right) and not _VARIABLE.match(left):
            left, sign, right = right, _flipped(sign), left
        if not _VARIABLE.match(left) or not right:
            return None
        if sign in ("\\ne", "≠"):
            return _Ranges(_punched([right]), left)
        if _infinite(right.lstrip("-")):
            return _Ranges((_ALL,), left)
        opened = sign in "<>"
        below = sign in ("<", "\\le")
        span = _Span(None, True, right, opened) if below else _Span(right, opened, None, True)
        return _Ranges((span,), left)
    if len(parts) == 5:
        low, first, name, second, high = parts
        if not _VARIABLE.match(name) or (first in ("<", "\\le")) != (second in ("<", "\\le")):
            return None
        if "\\ne" in (first, second):
            return None
        if first in (">", "\\ge"):
            low, first, second, high = high, _flipped(second), _flipped(first), low
        lo = None if _infinite(low.lstrip("-")) else low
        hi = None if _infinite(high) else high
        span = _Span(lo, lo is None or first == "<", hi, hi is None or second == "<")
        return _Ranges((span,), name)
    return None


def _flipped(sign: str) -> str:
    return {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}.get(sign, sign)


def _meet(a: _Ranges, b: _Ranges) -> _Ranges | None:
    """`x > 1 and x < 3`; where the two do not overlap, people mean either."""
    if len(a.spans) != 1 or len(b.spans) != 1 or a.variable != b.variable:
        return None
    one, two = a.spans[0], b.spans[0]
    if one.hi is not None and two.hi is None:
        one, two = two, one
    if one.lo is None or one.hi is not None or two.hi is None or two.lo is not None:
        return None
    low, high = read_number(one.lo), read_number(two.hi)
    if low is None or high is None or low == high:
        return None
    if low > high:
        return _Ranges((two, one), a.variable)
    return _Ranges((_Span(one.lo, one.lo_open, two.hi, two.hi_open),), a.variable)


# assignments

_NAME = re.compile(
    r"(?:\\?[A-Za-z]+|\\(?:angle|triangle|frac|overline|vec|mathbf|text) ?\{?[\w ,{}\\]+\}?)"
    r"(?: ?_ ?(?:\{[^{}]{1,20}\}|\w))?'*(?: ?\([\w ,]{1,20}\))?\Z"
)
_LOOSE_NAME = re.compile(r"[|\[(]?[A-Za-z\\][^=+^<>]{0,60}\Z")
_FUNCTION = re.compile(r"[A-Za-z]'* ?\( ?[A-Za-z](?: ?, ?[A-Za-z])* ?\)\Z|y\Z")
_EQUALS = re.compile(r"(?<![<>!:=])=(?!=)|\\approx(?![A-Za-z])|:=")
_LEAD = re.compile(
    r"(?:so |thus |hence |therefore |and )?,? ?(?:(?:the )?(?:final |correct |right )?"
    r"(?:answer|solution|result|value|option|choice)s?(?: (?:is|are|was|equals))?|it is|it's|about"
    r"|approximately|approx\.?|roughly|exactly|\\approx(?![A-Za-z])|\\sim(?![A-Za-z])|=)"
    r" ?:? ?(?=\S)", re.I,
)  # fmt: skip


def _assigned(text: str) -> tuple[str, str] | None:
    """(name, value) of `x = 5`; of a chain, its first and last parts."""
    if "=" not in text and "\\approx" not in text:
        return None
    parts = _top(text, _EQUALS)
    if len(parts) < 2 or not parts[-1] or not parts[0]:
        return None
    name = parts[0]
    if _NAME.match(name) or _LOOSE_NAME.match(name) or not re.search("[A-Za-z]", name):
        return name.replace(" ", ""), parts[-1]
    return None


# lists

_LABEL = re.compile(r"(?:^|(?<=[\s,;]))\(?([a-h]|[ivx]{1,4}|\d)\) ?(?=\S)", re.I)
_PM = re.compile(r"\\pm(?![A-Za-z])|\+/-|\+-")


@dataclass(frozen=True, slots=True)
class _Many:
    items: tuple[str, ...]
    names: tuple[str, ...]  # "" where an item has none
    kind: str  # "(", "[", "{" or ""
    ordered: bool


def _many(text: str) -> _Many | None:
    if "\\begin" in text:
        return None  # a matrix
    if labelled := _labelled(text):
        return labelled
    kind, inside = "", text
    if found := _brackets(text):
        kind, inside = found[0], found[1]
        if (kind, found[2]) not in (("(", ")"), ("[", "]"), ("{", "}")):
            return None
    parts = _top(inside, _JOIN)
    parts = [p for p in parts if p]
    items: list[str] = []
    names: list[str] = []
    for part in parts:
        name = ""
        if got := _assigned(part):
            name, part = got
        for one in _both_signs(part):
            items.append(one)
            names.append(name)
    if len(items) < 2 and kind != "{":
        return None
    if names and names[0] and not any(names[1:]):
        names = [""] * len(names)  # n = 1, 2, 3
    return _Many(tuple(items), tuple(names), kind, kind in ("(", "["))


def _labelled(text: str) -> _Many | None:
    marks = list(_LABEL.finditer(text))
    if len(marks) < 2 or marks[0].start() != 0:
        return None
    wanted = {"a": "abcdefgh", "i": ["i", "ii", "iii", "iv", "v"], "1": "12345678"}
    first = marks[0][1].lower()
    run = wanted.get(first)
    if run is None or [m[1].lower() for m in marks] != list(run)[: len(marks)]:
        return None
    edges = [*(m.start() for m in marks), len(text)]
    items = [text[m.end() : end].strip(" ,;") for m, end in zip(marks, edges[1:], strict=True)]
    items = [re.sub(r" (?:and|or)\Z", "", i) for i in items]
    if not all(items):
        return None
    return _Many(tuple(items), ("",) * len(items), "", True)


def _both_signs(text: str) -> list[str]:
    if not _PM.search(text):
        return [text]
    plus = _PM.sub("+", text).lstrip("+ ")
    return [plus, _PM.sub("-", text).replace("- -", "+")]


# other things

_BASE = re.compile(r"\(?([0-9A-Fa-f]+)\)? ?_ ?\{? ?(\d{1,2}|two|three|eight|ten|sixteen) ?\}?\Z")
_BASES = {"two": 2, "three": 3, "eight": 8, "ten": 10, "sixteen": 16}
_TIME = re.compile(
    r"(\d{1,2}):(\d\d)(?::(\d\d))? ?(?:([ap])\.? ?m\.?)?\Z|(\d{1,2}) ?([ap])\.? ?m\.?\Z", re.I
)
_PROPORTION = re.compile(r"[\d.]+(?: ?(?::|\bto\b) ?[\d.]+)+\Z")
_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september",
           "october", "november", "december")  # fmt: skip
_DAY_NAMED = re.compile(
    r"(?:(?P<d1>\d{1,2})(?:st|nd|rd|th)? (?:of )?)?(?P<m>[A-Za-z]{3,9})\.?"
    r"(?: (?P<d2>\d{1,2})(?:st|nd|rd|th)?)?(?:,? (?P<y>\d{4}))?\Z"
)
_DAY_SLASHED = re.compile(r"(\d{1,2})[/.](\d{1,2})(?:[/.](\d{4}|\d\d))?\Z")
_DAY_ISO = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})\Z")
_OPTION = re.compile(
    r"(?:option |choice |answer )?[(\[]?([A-Z])(?:[)\].:]|(?=\Z))(?: ?(.+))?\Z", re.I
)
_LETTER = re.compile(r"\(?([A-Z])\)?\Z")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}|[^\W\d_\x00-\x7f]{2,}")
_MATH_WORDS = frozenset(
    "sin cos tan cot sec csc log ln exp lim max min gcd lcm mod det dim ker arg arcsin arccos"
    " arctan"
    " sinh cosh tanh pi sqrt frac cdot times div pm mp le ge ne in infty alpha beta gamma delta"
    " theta"
    " lambda mu phi omega sigma rho tau psi epsilon xy xz yz ab bc ac ax bx cx dx dy dt nm mn pq"
    " xyz abc abcd inf".split()
)
_GROUPS = (
    ("yes true correct", "true"),
    ("no false incorrect", "false"),
)
_NOTHING = frozenset(
    {r"\emptyset", "{}", r"\{ \}", r"\{\}", "empty set", "the empty set", "no solution",
     "no solutions", "no real solution", "no real solutions", "there is no solution",
     "there are no solutions"}
)  # fmt: skip
_UNDEFINED = frozenset({"dne", "does not exist", "undefined", "not defined"})
_ENDLESS = frozenset({"infinitely many", "infinitely many solutions", "infinite"})
_ARTICLES = frozenset({"a", "an", "the"})


def _based(text: str) -> tuple[str, int, int] | None:
    """(digits, base, value) of a numeral with its base."""
    found = _BASE.match(text)
    if found is None or len(found[1]) > 64 or (not found[1].isdecimal() and len(found[1]) < 2):
        return None
    base = _BASES.get(found[2]) or int(found[2])
    if not 2 <= base <= 36:
        return None
    try:
        return found[1].lower(), base, int(found[1], base)
    except ValueError:
        return None


def _time(text: str) -> tuple[int, str] | None:
    """(seconds since midnight, a or p or "")."""
    found = _TIME.match(text)
    if found is None:
        return None
    hour = int(found[1] or found[5])
    minute, second = int(found[2] or 0), int(found[3] or 0)
    half = (found[4] or found[6] or "").lower()
    if hour > 24 or minute > 59 or second > 59:
        return None
    if half:
        hour = hour % 12 + (12 if half == "p" else 0)
    return hour * 3600 + minute * 60 + second, half


def _days(text: str) -> tuple[set[tuple[int, int]], str] | None:
    """The (month, day) that a date may be, and its year or ""; None for no date."""
    if found := _DAY_ISO.match(text):
        return {(int(found[2]), int(found[3]))}, found[1]
    if found := _DAY_SLASHED.match(text):
        a, b = int(found[1]), int(found[2])
        days = {(m, d) for m, d in ((a, b), (b, a)) if 1 <= m <= 12 and 1 <= d <= 31}
        return days, found[3] or ""
    found = _DAY_NAMED.match(text)
    if found is None:
        return None
    said, day = found["m"].lower(), found["d1"] or found["d2"]
    month = next((i for i, name in enumerate(_MONTHS, 1) if name.startswith(said)), None)
    if month is None or day is None:
        return None
    return {(month, int(day))}, found["y"] or ""


def _words(text: str) -> list[str]:
    """The words of prose in an answer; names of functions and commands are none."""
    found = _WORD.findall(re.sub(r"\\(?:begin|end) ?\{\w+\}|\\[A-Za-z]+", " ", text))
    return [w for w in found if w.lower() not in _MATH_WORDS]


def _spoken(text: str) -> str:
    """Prose without case, articles and punctuation."""
    words = re.sub(r"[^\w\s+\-*/^=]", " ", text.casefold()).split()
    kept = [w for w in words if w not in _ARTICLES] or words
    return " ".join(kept)


class _Comparison:
    """The rules, in order; the first that knows both answers decides."""

    def __init__(self, leaf: Leaf) -> None:
        self.leaf = leaf
        self.left = 2000  # pairs that may still be compared

    def pair(self, a: str, b: str, depth: int = 0) -> Verdict:
        a, b = _tidy(a), _tidy(b)
        if a == b or (a.replace(" ", "") == b.replace(" ", "") and _spaceless(a, b)):
            return "equal"
        self.left -= 1
        if depth > _DEPTH or self.left < 0:
            return "undecided"
        for rule in (
            self._numbers, self._bases, self._options, self._leads, self._special, self._times,
            self._ranges, self._lists, self._assignments, self._measured, self._prose,
        ):  # fmt: skip
            verdict: Verdict | None = rule(a, b, depth + 1)
            if verdict is not None:
                return verdict
        return self.leaf(a, b)

    def _numbers(self, a: str, b: str, depth: int) -> Verdict | None:
        (a, unit_a), (b, unit_b) = split_measure(a), split_measure(b)
        one, two = readings(a), readings(b)
        if not one or not two:
            if (one or two) and (unit_a or unit_b):
                return None
            return self._number_and_words(a, b) if one or two else None
        return _with_units(one, unit_a, two, unit_b, a, b)

    def _number_and_words(self, a: str, b: str) -> Verdict | None:
        other = b if readings(a) else a
        if not re.search(r"\d|\\", other) and len(_words(other)) > 0:
            letters = re.sub(r"[^\w]", "", other)
            return "different" if len(letters) > 2 and _spoken(other) != "infinity" else None
        return None

    def _bases(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _based(a), _based(b)
        if one and two:
            return "equal" if one[2] == two[2] else "different"
        if not one and not two:
            return None
        based, other = (one, b) if one else (two, a)
        assert based is not None
        value = read_number(other)
        if value is None:
            return "undecided" if other.lower() == based[0] else None
        if value == based[2]:
            return "equal"
        return "undecided" if other.lower() == based[0] else "different"

    def _options(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _LETTER.match(a), _LETTER.match(b)
        if one and two:
            return "equal" if one[1] == two[1] else "different"
        if not one and not two:
            long_a, long_b = _OPTION.match(a), _OPTION.match(b)
            if not (long_a and long_b and long_a[2] and long_b[2]):
                return None
            if not (long_a[1].isupper() and long_b[1].isupper()):
                return None
            if long_a[1] != long_b[1]:
                return "different"
            return "equal" if self.pair(long_a[2], long_b[2], depth) == "equal" else "undecided"
        letter, other = (one, b) if one else (two, a)
        assert letter is not None
        found = _OPTION.match(other)
        if found is None or (found[2] and not found[1].isupper()):
            return None
        return (
            "equal"
            if found[1].upper() == letter[1] and len(other) > 1
            else (None if len(other) == 1 else "different")
        )

    def _leads(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = (_LEAD.sub("", t, count=1) if _LEAD.match(t) else t for t in (a, b))
        return self.pair(one, two, depth) if (one, two) != (a, b) and one and two else None

    def _special(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _spoken_special(a), _spoken_special(b)
        if one and two:
            return "equal" if one == two else "different"
        if one or two:
            other = b if one else a
            sure = one or two
            if sure in ("nothing", "undefined", "endless"):
                if sure == "nothing" and _spoken(other) in ("none", "nothing", "no"):
                    return "undecided"
                return "different"
        return None

    def _times(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _time(a), _time(b)
        share_a, share_b = _shares(a), _shares(b)
        if one and two:
            ratio = share_a is not None and share_a == share_b and 0 not in share_a
            if one[0] == two[0] or (
                bool(one[1]) != bool(two[1]) and (one[0] - two[0]) % 43200 == 0
            ):
                return "equal"
            return "undecided" if ratio else "different"
        if share_a is not None and share_b is not None:
            return "equal" if share_a == share_b else "different"
        if share_a is not None or share_b is not None:
            share, other = (share_a, b) if share_a is not None else (share_b, a)
            assert share is not None
            value = read_number(other)
            if value is not None and len(share) == 2 and share[1]:
                return "equal" if share[0] == value * share[1] else "different"
        day_a, day_b = _days(a), _days(b)
        named = [d for d, t in ((day_a, a), (day_b, b)) if d and re.search("[A-Za-z]|-", t)]
        if day_a and day_b and named:
            return _same_day(a, b, day_a, day_b)
        return None

    def _ranges(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _ranges(a), _ranges(b)
        if one is None or two is None:
            sure, other = (one, b) if one else (two, a)
            if sure is not None and sure.sure and (readings(other) or _letters_only(other)):
                return "different"
            return None
        if not one.sure and not two.sure and a[:1] == b[:1] == "(":
            return None  # two points
        return self._spans(one, two, depth)

    def _spans(self, one: _Ranges, two: _Ranges, depth: int) -> Verdict:
        if len(one.spans) != len(two.spans):
            return "undecided" if min(len(one.spans), len(two.spans)) > 1 else "different"
        verdicts = [
            self._span(x, y, depth)
            for x, y in zip(_sorted(one.spans), _sorted(two.spans), strict=True)
        ]
        verdict = _all(verdicts)
        if verdict == "equal" and one.variable and two.variable:
            if one.variable.replace(" ", "") != two.variable.replace(" ", ""):
                return "undecided"
        return verdict

    def _span(self, x: _Span, y: _Span, depth: int) -> Verdict:
        verdicts: list[Verdict] = []
        for p, p_open, q, q_open in (
            (x.lo, x.lo_open, y.lo, y.lo_open), (x.hi, x.hi_open, y.hi, y.hi_open),
        ):  # fmt: skip
            if (p is None) != (q is None) or p_open != q_open:
                return "different"
            if p is not None and q is not None:
                verdicts.append(self.pair(p, q, depth))
        return _all(verdicts)

    def _lists(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = (None if read_number(t) is not None else _many(t) for t in (a, b))
        if one is None or two is None:
            many, other = (one, b) if one else (two, a)
            if many is None:
                return None
            if _words(other) and not _words(" ".join(many.items)):
                return None
            if len(set(many.items)) == 1:
                return self.pair(many.items[0], other, depth)
            if readings(other) or _LETTER.match(other) or _ranges(other):
                return "different"
            return None
        return self._match(one, two, depth)

    def _match(self, one: _Many, two: _Many, depth: int) -> Verdict:
        if len(one.items) > _MOST or len(two.items) > _MOST:
            return "undecided"
        named_a, named_b = set(one.names) - {""}, set(two.names) - {""}
        if (
            len(named_a) == len(one.names) > 1
            and named_a == named_b
            and len(two.names) == len(named_b)
        ):
            found = dict(zip(two.names, two.items, strict=True))
            return _all(
                [self.pair(x, found[n], depth) for n, x in zip(one.names, one.items, strict=True)]
            )
        if "{" in (one.kind, two.kind) and not (one.ordered or two.ordered):
            one, two = _set(one), _set(two)
        if len(one.items) != len(two.items):
            return "different"
        in_order = _all([self.pair(x, y, depth) for x, y in zip(one.items, two.items, strict=True)])
        pair_brackets = {one.kind, two.kind} == {"(", "["}
        if pair_brackets and len(one.items) == 2:
            return "different"
        if one.ordered and two.ordered:
            return in_order
        distinct = len(named_a) > 1 or len(named_b) > 1
        ordered = one.ordered or two.ordered or distinct
        if in_order == "equal":
            doubtful = "{" in (one.kind, two.kind) and ordered and not distinct
            return "undecided" if doubtful and len(one.items) == 2 else "equal"
        if ordered:
            return in_order
        return self._unordered(list(one.items), list(two.items), depth)

    def _unordered(self, a: list[str], b: list[str], depth: int) -> Verdict:
        """A one-to-one matching, of equal parts if there is one."""
        table = [[self.pair(x, y, depth) for y in b] for x in a]
        for allowed in (("equal",), ("equal", "algebra"), ("equal", "algebra", "undecided")):
            if _matches(table, allowed):
                return allowed[-1]
        return "different"

    def _assignments(self, a: str, b: str, depth: int) -> Verdict | None:
        one, two = _assigned(a), _assigned(b)
        if one is None and two is None:
            return None
        if one and two:
            verdict = self.pair(one[1], two[1], depth)
            same = one[0] == two[0] or (_FUNCTION.match(one[0]) and _FUNCTION.match(two[0]))
            if same or verdict == "different":
                return verdict
            return self.leaf(a, b) if verdict == "algebra" else "undecided"
        (_, value), other = (one, b) if one else (two, a)  # type: ignore[misc]
        if "=" in other or _RELATION.search(other):
            return None
        return self.pair(value, other, depth)

    def _measured(self, a: str, b: str, depth: int) -> Verdict | None:
        """Units behind what is no plain number: `5\\sqrt{3}` cm."""
        (body_a, unit_a), (body_b, unit_b) = split_measure(a), split_measure(b)
        if not unit_a and not unit_b:
            return None
        for body, unit, other in ((body_a, unit_a, b), (body_b, unit_b, a)):
            if unit and measure(unit).dimension == "angle" and "\\pi" in other:
                return self.pair(rf"({body}) \cdot \frac{{\pi}}{{180}}", other, depth)
        verdict = self.pair(body_a, body_b, depth)
        if verdict == "different":
            same = unit_a and unit_b and measure(unit_a) != measure(unit_b)
            return "undecided" if same else verdict
        if not unit_a or not unit_b:
            missing = measure(unit_a or unit_b)
            return "undecided" if missing.dimension == "percent" else verdict
        if measure(unit_a) == measure(unit_b):
            return verdict
        return "different" if measure(unit_a).known and measure(unit_b).known else "undecided"

    def _prose(self, a: str, b: str, depth: int) -> Verdict | None:
        if _letters_only(a) and _letters_only(b):
            return _letters(a, b)
        one, two = _words(a), _words(b)
        if not one and not two:
            return None
        if _spoken(a) == _spoken(b):
            return "equal"
        if one and two:
            if re.search(r"\d", a) or re.search(r"\d", b):
                same = re.findall(r"\d+", a) == re.findall(r"\d+", b)
                return "undecided" if same else "different"
            spoken_a, spoken_b = set(_spoken(a).split()), set(_spoken(b).split())
            return "undecided" if spoken_a < spoken_b or spoken_b < spoken_a else "different"
        prose, formula = (a, b) if one else (b, a)
        said = re.search(r"\b(?:is|are|equals|be)\b ?:? ?(.+)\Z", prose)
        if said and not re.search(r"\b(?:not|no|n't|least|most)\b", prose):
            return self.pair(said[1], formula, depth)
        if not re.search(r"\d|\\", prose):
            return "different"
        digits = re.findall(r"\d+", prose)
        return "undecided" if set(re.findall(r"\d+", formula)) <= set(digits) else "different"


def _tidy(text: str) -> str:
    """Without brackets around one thing, and without a full stop."""
    text = text.strip()
    if text[:1] == text[-1:] == "$":
        text = text.strip("$").strip()
    if len(text) > 2 and text[-1] in ",;" and text[-2] != "\\":
        text = text[:-1].rstrip()
    for _ in range(3):
        found = _brackets(text)
        if found is None or found[0] != "(" or found[2] != ")" or len(_top(found[1], _JOIN)) > 1:
            break
        if not found[1] or text.startswith("\\langle"):
            break
        text = found[1]
    return text


def _spaceless(a: str, b: str) -> bool:
    """Whether spaces mean nothing: they part numbers and words."""
    both = f"{a} | {b}"
    if re.search(r"\d, ?\d{3}(?!\d)", both) and ", " in both:
        return False  # a list, and a number of thousands
    return "\\" in both or not re.search(r"\w \w", both)


def _with_units(
    one: tuple[Fraction, ...], unit_a: str, two: tuple[Fraction, ...], unit_b: str, a: str, b: str
) -> Verdict:
    same = not set(one).isdisjoint(two) or _close(a, b, one, two)
    if not unit_a and not unit_b:
        return "equal" if same else "different"
    x, y = measure(unit_a) if unit_a else None, measure(unit_b) if unit_b else None
    if x is None or y is None:
        there = x or y
        assert there is not None
        if there.dimension != "percent":
            return "equal" if same else "different"
        if same:
            return "equal" if one == (Fraction(0),) else "undecided"
        share = {v / 100 for v in (one if x else two)}
        return "equal" if share & set(two if x else one) else "different"
    if x == y:
        return "equal" if same else "different"
    if x.dimension == y.dimension and x.known and y.known:
        scaled = {v * x.factor for v in one} & {v * y.factor for v in two}
        return "equal" if scaled else "different"
    if {x.dimension, y.dimension} == {"angle", "radian"}:
        return "equal" if one == two == (Fraction(0),) else "different"
    if x.known and y.known:
        return "different"
    return "undecided" if same else "different"


def _close(a: str, b: str, one: tuple[Fraction, ...], two: tuple[Fraction, ...]) -> bool:
    """Whether one is a decimal that rounds the other, which has no decimal of its own."""
    return any(approximates(a, v) for v in two if _endless(v)) or any(
        approximates(b, v) for v in one if _endless(v)
    )


def _endless(value: Fraction) -> bool:
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below != 1


def _spoken_special(text: str) -> str:
    spoken = " ".join(text.lower().rstrip(".").split())
    if spoken in _NOTHING:
        return "nothing"
    if spoken in _UNDEFINED:
        return "undefined"
    if spoken in _ENDLESS:
        return "endless"
    for names, meaning in _GROUPS:
        if spoken in names.split():
            return meaning
    return ""


def _shares(text: str) -> tuple[Fraction, ...] | None:
    """The parts of a proportion, in lowest terms."""
    if not _PROPORTION.match(text):
        return None
    parts = [read_number(p.strip()) for p in re.split(r":|to", text)]
    if any(p is None for p in parts) or not any(parts):
        return None
    values = [p for p in parts if p is not None]
    first = next(v for v in values if v)
    return tuple(v / first for v in values)


def _same_day(
    a: str, b: str, day_a: tuple[set[tuple[int, int]], str], day_b: tuple[set[tuple[int, int]], str]
) -> Verdict:
    (one, year_a), (two, year_b) = day_a, day_b
    if year_a and year_b and year_a[-2:] != year_b[-2:]:
        return "different"
    both = one & two
    if not both:
        return "different"
    if len(one) == len(two) == 1:
        return "equal"
    # Month first is how a slashed date is written where the month may also be named first.
    for text, named in ((a, two), (b, one)):
        if found := _DAY_SLASHED.match(text):
            first = (int(found[1]), int(found[2]))
            return "equal" if first in named or first[0] > 12 else "undecided"
    return "undecided"


def _sorted(spans: tuple[_Span, ...]) -> list[_Span]:
    def key(span: _Span) -> tuple[int, Fraction]:
        if span.lo is None:
            return (0, Fraction(0))
        value = read_number(span.lo)
        return (2, Fraction(0)) if value is None else (1, value)

    keys = [key(s) for s in spans]
    return sorted(spans, key=key) if (2, Fraction(0)) not in keys else list(spans)


def _set(many: _Many) -> _Many:
    items = tuple(dict.fromkeys(many.items))
    return replace(many, items=items, names=("",) * len(items))


def _all(verdicts: Sequence[Verdict]) -> Verdict:
    for verdict in ("different", "undecided", "algebra"):
        if verdict in verdicts:
            return verdict
    return "equal"


def _matches(table: list[list[Verdict]], allowed: Sequence[str]) -> bool:
    """Whether rows and columns can be paired off along allowed cells (augmenting paths)."""
    taken: dict[int, int] = {}

    def place(row: int, seen: set[int]) -> bool:
        for column, verdict in enumerate(table[row]):
            if verdict in allowed and column not in seen:
                seen.add(column)
                if column not in taken or place(taken[column], seen):
                    taken[column] = row
                    return True
        return False

    return all(place(row, set()) for row in range(len(table)))


def _letters_only(text: str) -> bool:
    return len(text) > 1 and re.fullmatch(r"[^\W\d_]+(?:[ '\-.][^\W\d_]+)*", text) is not None


def _letters(a: str, b: str) -> Verdict | None:
    """Two answers of letters alone: words, products of variables, or names of points."""
    if a.casefold() == b.casefold():
        return "equal" if min(len(a), len(b)) > 1 and (len(_words(a)) or a.isalpha()) else None
    if _spoken(a) == _spoken(b):
        return "equal"
    if {a.lower(), b.lower()} & {"pi", "infinity"}:
        return None if min(len(a), len(b)) < 4 else "different"
    if sorted(a) == sorted(b) and max(len(a), len(b)) <= 3:
        products = a.islower() and set(a) <= set("abcmnpqrstxyz" if len(a) == 2 else "abcxyz")
        return None if products else "undecided" if len(a) == 2 else "different"
    one, two = set(_spoken(a).split()), set(_spoken(b).split())
    return "undecided" if one < two or two < one else "different"
