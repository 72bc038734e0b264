"""Pairs of answers that look alike and differ: none may be called equal.

Generated, so that no rule can be fitted to them; the same ones every time.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from fractions import Fraction

_UNITS = ["cm", "m", "km", "mm", "kg", "g", "hours", "minutes", "seconds", "miles", "feet"]
_MONTHS = ["January", "March", "April", "June", "July", "October", "December"]


def near_misses(seed: int = 20241) -> list[tuple[str, str, str]]:
    """(kind, one answer, another that is not equal)."""
    rng = random.Random(seed)
    out: list[tuple[str, str, str]] = []
    for kind, make in _KINDS.items():
        for _ in range(60):
            out.extend((kind, a, b) for a, b in make(rng) if a != b)
    return list(dict.fromkeys(out))


def _n(rng: random.Random, low: int = 2, high: int = 99) -> int:
    return rng.randint(low, high)


def _factorials(rng: random.Random) -> Iterator[tuple[str, str]]:
    n = _n(rng, 5, 2500)
    yield rf"\frac{{1}}{{{n}!}}", rf"\frac{{1}}{{{n + rng.choice([1, 2])}!}}"
    yield f"{n}!", f"{n + 1}!"
    yield f"{n}! + 1", f"{n}!"
    k = _n(rng, 25, 40)
    yield f"{k}! + 1", str(math.factorial(k))


def _powers(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, n = _n(rng, 2, 13), _n(rng, 20, 3000)
    yield f"{a}^{{{n}}}", f"{a}^{{{n + 1}}}"
    yield rf"\frac{{1}}{{{a}^{{{n}}}}}", rf"\frac{{1}}{{{a}^{{{n - 1}}}}}"
    yield f"{a}^{{{n}}} + 1", f"{a}^{{{n}}}"
    yield f"{a}^{{{n % 300 + 90}}}", str(a ** (n % 300 + 90) + 1)
    yield f"10^{{{n}}}x + 1", f"10^{{{n}}}x"
    yield f"10^{{-{n}}}", f"10^{{-{n + 1}}}"
    yield rf"{a} \times 10^{{{n % 90}}}", rf"{a} \times 10^{{{n % 90 + 1}}}"


def _bases(rng: random.Random) -> Iterator[tuple[str, str]]:
    digits = "1" + "".join(rng.choice("01") for _ in range(_n(rng, 3, 9)))
    base = _n(rng, 2, 8)
    yield f"{digits}_{base}", f"{digits}_{base + 1}"
    yield f"{digits}_{{{base}}}", digits
    yield f"{digits}_{base}", f"{digits}0_{base}"
    yield rf"\log_{base} {base + 7}", rf"\log_{base + 1} {base + 7}"
    yield f"x_{base}", f"x_{base + 1}"
    yield f"x_{{{base}}}", f"x^{{{base}}}"
    yield f"a_{{{base}{base + 1}}}", f"a_{{{base + 1}{base}}}"


def _fractions(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, b = _n(rng), _n(rng)
    if a != b:
        yield rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{b}}}{{{a}}}"
        yield f"{a}/{b}", f"{b}/{a}"
        yield rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{b}\pi}}{{{a}}}"
    yield rf"\frac{{{a}}}{{{b}}}", rf"\frac{{{a}}}{{{b + 1}}}"
    yield rf"{a}\frac{{1}}{{{b + 1}}}", rf"\frac{{{a}}}{{{b + 1}}}"
    yield rf"\frac{{x}}{{{b}}}", rf"\frac{{{b}}}{{x}}"


def _digits(rng: random.Random) -> Iterator[tuple[str, str]]:
    n = _n(rng, 10, 10**9)
    yield str(n), str(n + rng.choice([1, 10, 100]))
    yield str(n), str(n)[::-1] if str(n) != str(n)[::-1] else str(n + 1)
    yield f"{n:,}", f"{n + 1:,}"
    yield str(n), f"{n}0"
    d = Fraction(_n(rng, 1, 10**8), 10**8)
    yield f"{float(d):.8f}", f"{float(d) + 1e-8:.8f}"
    yield f"0.{n}", f"0.0{n}"
    yield f"{_n(rng)}.{n % 1000:03d}", f"{_n(rng, 100, 999)},{n % 1000:03d}"
    k = _n(rng, 1, 9)
    yield f"{k},{n % 1000:03d}", f"{k}.{n % 1000:03d}"
    yield f"{k},{n % 1000:03d}", f"{k}, {n % 1000:03d}"
    yield rf"0.\overline{{{k}}}", f"0.{k}"
    yield rf"0.{k % 3}\overline{{3}}", rf"0.\overline{{{k % 3}3}}"


def _signs(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, b = _n(rng), _n(rng)
    yield str(a), f"-{a}"
    yield f"{a}", f"\u2212{a}"
    yield rf"\frac{{{a}}}{{{b}}}", rf"-\frac{{{a}}}{{{b}}}"
    yield rf"{a} + \sqrt{{{b + 100}}}", rf"{a} - \sqrt{{{b + 100}}}"
    yield rf"{a} \pm \sqrt{{{b + 100}}}", rf"{a} + \sqrt{{{b + 100}}}"
    yield rf"\pm {a}", str(a)
    yield f"x - {a}", f"{a} - x"
    yield f"|x - {a}|", f"x - {a}"
    yield f"{a} + {b}i", f"{a} - {b}i"


def _percents(rng: random.Random) -> Iterator[tuple[str, str]]:
    a = _n(rng)
    yield rf"{a}\%", str(a)
    yield f"{a}%", f"0.{a:02d}%"
    yield f"{a} percent", f"{a / 10}"
    yield f"{a}%", f"{a + 1}%"
    yield f"{a / 100}", f"{a / 100}%"


def _ranges(rng: random.Random) -> Iterator[tuple[str, str]]:
    a = _n(rng)
    b = a + _n(rng)
    forms = [f"({a}, {b})", f"[{a}, {b}]", f"({a}, {b}]", f"[{a}, {b})"]
    one, two = rng.sample(forms, 2)
    yield one, two
    yield rf"x \le {a}", f"x < {a}"
    yield f"x > {a}", f"x < {a}"
    yield rf"(-\infty, {a})", rf"(-\infty, {a}]"
    yield rf"x \ge {a}", rf"({a}, \infty)"
    yield rf"[{a}, {b})", rf"{a} < x \le {b}"
    yield rf"(-\infty, {a}) \cup ({b}, \infty)", rf"(-\infty, {a}] \cup [{b}, \infty)"
    yield rf"(-\infty, {a}) \cup ({b}, \infty)", f"({a}, {b})"
    yield f"({a}, {b})", f"({a}, {b + 1})"
    yield rf"\{{{a}, {b}\}}", f"({a}, {b})"
    yield f"x = {a}", rf"x \le {a}"
    yield rf"x \ne {a}", f"{a}"


def _lists(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, b, c = rng.sample(range(1, 99), 3)
    yield f"({a}, {b})", f"({b}, {a})"
    yield f"({a}, {b}, {c})", f"({a}, {c}, {b})"
    yield f"{a}, {b}", f"{a}, {b}, {c}"
    yield rf"\{{{a}, {b}\}}", rf"\{{{a}, {c}\}}"
    yield f"x = {a}, y = {b}", f"x = {b}, y = {a}"
    yield f"a) {a}, b) {b}", f"{b}, {a}"
    yield f"{a} and {b}", f"{a}"
    yield f"{a}:{b}", f"{b}:{a}"
    yield f"({a}, {b}), ({b}, {c})", f"({a}, {b}), ({c}, {b})"
    yield (rf"\begin{{pmatrix}} {a} \\ {b} \end{{pmatrix}}",
           rf"\begin{{pmatrix}} {b} \\ {a} \end{{pmatrix}}")  # fmt: skip


def _choices(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, b = rng.sample("ABCDE", 2)
    n = _n(rng)
    yield a, b
    yield f"({a})", b
    yield f"{a}) {n}", b
    yield rf"\textbf{{({a})}}\ {n}", b
    yield rf"\text{{{a}}}", rf"\text{{({b})}}"
    yield a + b, b + a


def _units(rng: random.Random) -> Iterator[tuple[str, str]]:
    one, two = rng.sample(_UNITS, 2)
    n = _n(rng)
    yield f"{n} {one}", f"{n} {two}"
    yield rf"{n}\text{{ {one}}}", rf"{n + 1}\text{{ {one}}}"
    yield rf"{n}\text{{ cm}}^2", rf"{n}\text{{ cm}}^3"
    yield rf"\${n}", f"{n} cents"
    yield f"{n} km/h", f"{n} m/s"
    yield rf"{n}\sqrt{{2}} {one}", rf"{n}\sqrt{{3}} {one}"
    yield f"{n} people", f"{n} students"
    yield f"{n} million", f"{n} thousand"
    yield rf"{n}^\circ", rf"{n + 1}^\circ"


def _times(rng: random.Random) -> Iterator[tuple[str, str]]:
    h, m = rng.sample(range(1, 12), 2)
    t = _n(rng, 10, 59)
    yield f"{h}:{t}", f"{m}:{t}"
    yield f"{h}:{t} AM", f"{h}:{t} PM"
    yield f"{h}:{t}", f"{h}:{t - 1}"
    one, two = rng.sample(_MONTHS, 2)
    yield f"{one} {h}", f"{two} {h}"
    yield f"{one} {h}", f"{one} {h + 1}"
    yield f"June {h + 12}", f"7/{h + 12}"
    yield f"{one} {h}, 2020", f"{one} {h}, 2021"


def _algebra(rng: random.Random) -> Iterator[tuple[str, str]]:
    a, b = _n(rng, 2, 30), _n(rng, 2, 30)
    yield rf"{a}\sqrt{{{b}}}", rf"{b + 31}\sqrt{{{a}}}"
    yield rf"\sqrt{{{a}}}", rf"\sqrt[3]{{{a}}}"
    yield f"x^{a}", f"{a}x"
    yield f"x^{a}", f"x^{{{a + 1}}}"
    yield f"({a}x + {b})^2", f"{a * a}x^2 + {b * b}"
    yield rf"\sin {a}x", rf"\cos {a}x"
    yield rf"\sqrt{{x^2 + {a}}}", f"x + {a}"
    yield rf"\ln(x + {a})", rf"\ln x + \ln {a}"
    yield f"y = {a}x + {b + 31}", f"y = {b + 31}x + {a}"
    yield f"x^2 + y^2 = {a}", f"x^2 - y^2 = {a}"
    yield f"f({a})", f"f({a + 1})"
    yield rf"\binom{{{a + 40}}}{{2}}", rf"\binom{{{a + 40}}}{{3}}"
    yield rf"e^{{{a}}}", rf"e^{{-{a}}}"
    yield rf"\frac{{{a}}}{{x + {b}}}", rf"\frac{{{a}}}{{x}} + {b}"
    yield rf"{a}\pi", f"{a * 3.14:.2f}"


def _words(rng: random.Random) -> Iterator[tuple[str, str]]:
    names = ["Paris", "Rome", "odd", "even", "yes", "no", "red", "blue", "north", "south", "none",
             "increasing", "decreasing", "Alice", "Bob", "maximum", "minimum"]  # fmt: skip
    one, two = rng.sample(names, 2)
    n = _n(rng)
    yield one, two
    yield rf"\text{{{one}}}", two
    yield f"at least {n}", f"at most {n}"
    yield f"not {n}", f"{n}"
    yield f"{n} or more", f"{n}"
    yield one, str(n)
    yield "no solution", str(n)
    yield r"\infty", r"-\infty"


_KINDS = {
    "factorials": _factorials, "powers": _powers, "bases": _bases, "fractions": _fractions,
    "digits": _digits, "signs": _signs, "percents": _percents, "ranges": _ranges, "lists": _lists,
    "choices": _choices, "units": _units, "times": _times, "algebra": _algebra, "words": _words,
}  # fmt: skip
