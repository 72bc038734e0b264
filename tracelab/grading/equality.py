"""Mathematical equality by math-verify, in a process that can be killed.

math-verify hands a model's text to a LaTeX parser and SymPy, which can take forever or all memory
(`9**9**9**9`), and its own timeouts only work in a main thread. So it runs in one helper process
(`tracelab.grading.helper`), started when the first hard comparison comes, with its timeouts off,
and killed when a comparison has used its seconds of processor time: a busy machine changes no
grade. The next comparison starts another.

math-verify reads; what it says about equality is checked, because it calls numbers equal that
differ by less than its precision (1/2004! and 1/2006!). Two expressions are evaluated to 30 digits
at several points: one difference is a difference. Equations must be proportional. Of sets and
relations that it calls equal the numbers must be the same, else they are `undecided`.

A request is `[answer, reference]`; the reply a verdict of `tracelab.text.answer.compare`, or
`{"error": sentence}`.
"""

from __future__ import annotations

import re
import resource
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from functools import lru_cache
from typing import Any

from tracelab.grading.helper import Helper, HelperError, StartError, serve
from tracelab.text.answer.compare import Verdict, compare
from tracelab.text.answer.numerals import approximates

__all__ = ["EqualityError", "MathEquality", "StartError"]

_LONGEST = 2000  # characters; longer answers are not formulas
_MEMORY = 2 << 30  # bytes of address space the helper may use
_DIGITS = 30  # that must agree
_MOST_DIGITS = 10_000  # that are looked at where so many agree
_POINTS = (
    "1.3127 2.7191 0.6173 3.4409 1.9031 0.2719 5.1213 2.2343 0.8101 4.3717 1.1287 3.0913",
    "0.4337 1.7741 3.1361 0.9127 2.4019 6.2011 0.3461 1.5083 2.9173 0.7219 4.8121 1.0429",
    "-1.6177 -0.7213 2.3119 -2.9041 0.5237 -3.3331 1.2043 -0.4409 -2.2127 3.9019 -1.1093 0.6427",
    "-0.3719 1.4321 -2.1013 0.8317 -1.9207 -0.5501 -4.1143 2.6021 0.3917 -1.3011 -2.7109 -0.9241",
)  # values of the variables, in the order of their names; generic, so that no identity is hit

_DEGREES = re.compile(r"(\d+(?:\.\d+)?) ?°")

EqualityError = HelperError
"""The comparison failed or took too long: the answer is neither right nor wrong."""


class MathEquality:
    """Compares answers in a helper process. Thread-safe: one comparison at a time."""

    def __init__(self, timeout_s: float) -> None:
        """Set the processor time of one comparison, seconds; starts nothing."""
        self._helper = Helper(
            "tracelab.grading.equality", (), timeout_s, "Comparing the answers", cpu=True
        )

    @property
    def _process(self) -> subprocess.Popen[bytes] | None:
        return self._helper.process

    def close(self) -> None:
        """End the helper, if there is one."""
        self._helper.close()

    def verdict(self, answer: str, reference: str) -> Verdict:
        """Tell whether two answers are mathematically equal; never `algebra`.

        Raises:
            EqualityError: It took too long, or the comparison failed.
        """
        if len(answer) > _LONGEST or len(reference) > _LONGEST:
            return "different"
        reply = self._helper.ask([answer, reference])
        if reply in ("equal", "different", "undecided"):
            return reply  # type: ignore[no-any-return]
        raise EqualityError(f"math-verify failed: {reply['error']}")


def _leaf(a: str, b: str) -> Verdict:
    """Two answers, or parts of answers, that reading alone could not compare."""
    x, y = _parsed(a), _parsed(b)
    if x is None or y is None:
        return "different"  # not mathematics, and not the same text
    verdict = _decided(x, y, a, b)
    if verdict == "equal" and ("!!" in a or "!!" in b or _letters(a) != _letters(b)):
        # The parser folds case, and reads 5!! as (5!)!.
        return "undecided"
    return verdict


def _letters(text: str) -> set[str]:
    """Letters of a formula whose other case does not occur there too."""
    found = set(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", text)))
    return {c for c in found if c.isupper()}


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Any:
    """What math-verify reads, a SymPy object; None where it reads nothing."""
    from math_verify import LatexExtractionConfig, parse

    text = text.replace("**", "^").replace("%", r"\%")
    text = _DEGREES.sub(r"(\1 \\cdot \\frac{\\pi}{180})", text)
    found = parse(
        f"\\boxed{{{text}}}",
        extraction_config=(LatexExtractionConfig(boxed_match_priority=0),),
        parsing_timeout=None,
        raise_on_error=False,
    )
    return found[0] if found and not isinstance(found[0], str) else None


def _decided(x: Any, y: Any, a: str, b: str) -> Verdict:
    from sympy import Eq, Expr, MatrixBase

    if isinstance(x, MatrixBase) and isinstance(y, MatrixBase):
        if x.shape != y.shape:
            return "different"
        cells = [_same_value(p, q, "", "") for p, q in zip(list(x), list(y), strict=True)]
        return next((v for v in ("different", "undecided") if v in cells), "equal")
    plain = (Expr,)
    if isinstance(x, plain) and isinstance(y, plain):
        return _same_value(x, y, a, b)
    if type(x) is Eq and type(y) is Eq and all(isinstance(s, Expr) for s in (*x.args, *y.args)):
        return _proportional(x.lhs - x.rhs, y.lhs - y.rhs)
    return _checked(x, y)


def _checked(x: Any, y: Any) -> Verdict:
    """What math-verify says of sets, relations and tuples, if their numbers agree with it."""
    from math_verify import verify

    if x == y:
        return "equal"
    try:
        same = verify(x, y, timeout_seconds=None, raise_on_error=True)
    except Exception:
        return "undecided"
    if not same:
        return "different"
    return "equal" if _numbers(x) == _numbers(y) and type(x) is type(y) else "undecided"


def _numbers(x: Any) -> list[str]:
    from sympy import Basic

    atoms = x.atoms() if isinstance(x, Basic) else ()
    return sorted(str(n) for n in atoms if getattr(n, "is_number", False))


def _named(x: Any) -> Any:
    """Applications of unknown functions as variables, so that `f(2)` has a value; i as the unit."""
    from sympy import I, Symbol
    from sympy.core.function import AppliedUndef

    new = {f: Symbol(f"call {f}") for f in x.atoms(AppliedUndef)}
    new |= {s: I for s in x.free_symbols if str(s) == "i"}
    x = x.xreplace(new) if new else x
    # An odd root of a negative number is the real one, as at school.
    return x.replace(
        lambda e: e.is_Pow and e.exp.is_Rational and e.exp.q % 2 == 1 != e.exp.q
        and e.base.is_negative is True,
        lambda e: (-1) ** e.exp.p * (-e.base) ** e.exp,
    )  # fmt: skip


def _values(exprs: list[Any]) -> list[tuple[Any, ...]]:
    """Each expression at each point, as complex numbers of mpmath; None where it has no value."""
    from sympy import Float

    free = sorted({s for e in exprs for s in e.free_symbols}, key=str)
    points = [p.split() for p in (_POINTS if free else _POINTS[:1])]
    if len(free) > len(points[0]):
        return []
    out = []
    for i, point in enumerate(points):
        where = {s: Float(v, _DIGITS + 10) for s, v in zip(free, point, strict=False)}
        row = tuple(_value(e, where) for e in exprs)
        if None in row:
            continue
        # Beyond the positive numbers only real values count: roots and logarithms have branches.
        if i > 1 and any(abs(v.imag) > 1e-20 * (1 + abs(v)) for v in row):
            continue
        out.append(row)
    return out


def _value(expr: Any, where: dict[Any, Any]) -> Any:
    import mpmath  # type: ignore[import-untyped]

    try:
        found = expr.evalf(_DIGITS + 5, subs=where, maxn=400)
        real, imaginary = found.as_real_imag()
        if not (real.is_Number and imaginary.is_Number):
            return None
        with mpmath.workdps(_DIGITS + 5):
            value = mpmath.mpc(mpmath.mpf(str(real)), mpmath.mpf(str(imaginary)))
        return value if mpmath.isfinite(value) else None
    except MemoryError:
        raise
    except Exception:
        return None


def _near(u: Any, v: Any, digits: int) -> bool:
    import mpmath

    with mpmath.workdps(_DIGITS + 10):
        return bool(abs(u - v) <= mpmath.mpf(10) ** -digits * max(abs(u), abs(v)))


def _same_value(x: Any, y: Any, a: str, b: str) -> Verdict:
    from sympy import Float

    if x == y:
        return "equal"
    x, y = (_named(_done(e)) for e in (x, y))
    if any(e.is_infinite for e in (x, y)):
        return "equal" if x == y else "different"
    floats = [bool(e.atoms(Float)) for e in (x, y)]
    rows = _values([x, y])
    if not rows:
        return _symbolic(x, y)
    if floats[0] != floats[1] and not (x.free_symbols or y.free_symbols):
        exact = rows[0][1 if floats[0] else 0]
        if abs(exact.imag) == 0 and approximates(a if floats[0] else b, _fraction(exact.real)):
            return "equal"
    # Decimals come as doubles, of some fifteen digits.
    digits = 12 if any(floats) else _DIGITS - 5
    for u, v in rows:
        if not _near(u, v, digits):
            # Nothing is near to zero but zero: cancellation leaves a rest of the working precision.
            return "different" if max(abs(u), abs(v)) > 1e-28 or _zero_apart(x, y) else "equal"
    return "different" if not any(floats) and _exactly_apart(x, y) else "equal"


def _exactly_apart(x: Any, y: Any) -> bool:
    """Of two that agree to many digits: whether more digits part them (2^100 and 2^100 + 1)."""
    from sympy import Float, Rational

    apart = x - y
    point = _POINTS[0].split()
    names = sorted(apart.free_symbols, key=str)
    apart = apart.xreplace({s: Rational(v) for s, v in zip(names, point, strict=False)})
    digits = 100 if names else _MOST_DIGITS
    if apart.is_Rational:
        return bool(apart != 0)
    try:
        parts = apart.evalf(3, maxn=digits).as_real_imag()
    except MemoryError:
        raise
    except Exception:
        return False
    # SymPy marks a number of which no digit is certain by a precision of one bit.
    return any(isinstance(p, Float) and p._prec > 1 and p != 0 for p in parts)


def _zero_apart(x: Any, y: Any) -> bool:
    """Of two tiny values: whether they differ for certain."""
    return bool((x - y).equals(0) is not True)


def _fraction(value: Any) -> Fraction:
    import mpmath

    with mpmath.workdps(_DIGITS + 10):
        return Fraction(int(mpmath.nint(value * mpmath.mpf(10) ** _DIGITS)), 10**_DIGITS)


def _done(expr: Any) -> Any:
    try:
        return expr.doit()
    except MemoryError:
        raise
    except Exception:
        return expr


def _symbolic(x: Any, y: Any) -> Verdict:
    """Where no point has a value: equal if algebra says so."""
    try:
        return "equal" if (x - y).equals(0) is True else "undecided"
    except MemoryError:
        raise
    except Exception:
        return "undecided"


def _proportional(x: Any, y: Any) -> Verdict:
    """Two equations, as expressions that are zero: one is a multiple of the other."""
    x, y = (_named(_done(e)) for e in (x, y))
    if not x.free_symbols and not y.free_symbols:
        return _same_value(x, y, "", "")
    rows = [(u, v) for u, v in _values([x, y]) if abs(u) > 1e-20 or abs(v) > 1e-20]
    if len(rows) < 2:
        return "undecided"
    first = rows[0]
    # u0 v = u v0 at every point.
    same = all(_near(first[0] * v, u * first[1], 12) for u, v in rows[1:])
    return "equal" if same else "different"


def _compare(answer: str, reference: str) -> Verdict:
    return compare(answer, reference, _leaf)


def _prepare() -> Callable[[Any], Verdict]:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    _leaf("1+x", r"\frac{2}{2}x")  # imports and the parser's tables, before any deadline runs
    return lambda request: _compare(*request)


if __name__ == "__main__":
    serve(float(sys.argv[1]), _prepare, cpu=True)
