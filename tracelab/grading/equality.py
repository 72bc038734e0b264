"""Mathematical equality by math-verify, in a process that can be killed.

math-verify hands a model's text to a LaTeX parser and SymPy, which can take forever or all memory
(`9**9**9**9`), and its own timeouts only work in a main thread. So it runs in one helper process
(`tracelab.grading.helper`), started when the first hard comparison comes, with its timeouts off,
and killed when a comparison misses its deadline; the next one starts another.

A request is `[answer, reference]`; the reply `true`, `false` or `{"error": sentence}`.
"""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from tracelab.grading.helper import Helper, HelperError, StartError, serve

__all__ = ["EqualityError", "MathEquality", "StartError"]

_LONGEST = 2000  # characters; longer answers are not formulas
_MEMORY = 2 << 30  # bytes of address space the helper may use

EqualityError = HelperError
"""The comparison failed or took too long: the answer is neither right nor wrong."""


class MathEquality:
    """Compares answers in a helper process. Thread-safe: one comparison at a time."""

    def __init__(self, timeout_s: float) -> None:
        """Set the deadline of one comparison; starts nothing."""
        self._helper = Helper("tracelab.grading.equality", (), timeout_s, "Comparing the answers")

    @property
    def _process(self) -> subprocess.Popen[bytes] | None:
        return self._helper.process

    def close(self) -> None:
        """End the helper, if there is one."""
        self._helper.close()

    def equal(self, answer: str, reference: str) -> bool:
        """Tell whether two answers are mathematically equal.

        Raises:
            EqualityError: It could not be decided in time, or the comparison failed.
        """
        if len(answer) > _LONGEST or len(reference) > _LONGEST:
            return False
        reply = self._helper.ask([answer, reference])
        if isinstance(reply, bool):
            return reply
        raise EqualityError(f"math-verify failed: {reply['error']}")


def _compare(answer: str, reference: str) -> bool:
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    targets = (LatexExtractionConfig(boxed_match_priority=0), ExprExtractionConfig())
    parsed = [
        parse(
            f"\\boxed{{{text}}}",
            extraction_config=targets,
            parsing_timeout=None,
            raise_on_error=True,
        )
        for text in (reference, answer)
    ]
    if not all(parsed):
        return False  # not mathematics, and not the same text
    return bool(verify(parsed[0], parsed[1], timeout_seconds=None, raise_on_error=True))


def _prepare() -> Callable[[Any], bool]:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = _MEMORY if hard == resource.RLIM_INFINITY else min(_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    _compare("1", r"\frac{2}{2}")  # imports and the parser's tables, before any deadline runs
    return lambda request: _compare(*request)


if __name__ == "__main__":
    serve(float(sys.argv[1]), _prepare)
