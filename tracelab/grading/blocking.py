"""The kinds that wait for another process or machine, behind one door: function, code, judge.

Their first results are kept (`tracelab.grading.cache`), and read again instead of asked again:

- `function`: keyed by the function's name and its module's file, the response, the reference and
  the trace. Failures are not kept. A change in what that file imports is not noticed.
- `code`: keyed by code, tests, limits and Python version, timeouts included. A sandbox that could
  not be built is not kept.
- `judge`: keyed by endpoint, model, sampling and messages; the reply is kept, also an unclear one.
  Failures of the transport are not.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.trace import Trace
from tracelab.grading.cache import OutcomeCache
from tracelab.grading.code import CodeGrader
from tracelab.grading.function import FunctionGrader
from tracelab.grading.helper import HelperError
from tracelab.grading.judge import JudgeClient
from tracelab.grading.options import GradingConfig


@dataclass(frozen=True, slots=True)
class Given:
    """What a function gave: an answer as written, and a reward or None."""

    answer: str
    reward: float | None


class BlockingGrader:
    """One of the three, as the configuration says. Thread-safe."""

    def __init__(self, config: GradingConfig, cache_dir: Path | None) -> None:
        """Prepare it, and find out now whether it can work.

        Raises:
            GradingError: It cannot.
        """
        folder = None if cache_dir is None else cache_dir / config.kind
        self._cache = OutcomeCache(folder)
        self._function: FunctionGrader | None = None
        self._code: CodeGrader | None = None
        self._judge: JudgeClient | None = None
        self.inputs = ""
        if config.kind == "function":
            assert config.function is not None
            self._function = FunctionGrader(config.function, config.timeout_s, config.workers)
            self.inputs = self._function.source_hash
        elif config.kind == "code":
            self._code = CodeGrader(config.code, config.timeout_s, self._cache)
            self.inputs = self._code.tests or ""
        else:
            self._judge = JudgeClient(config.judge, config.workers, self._cache)

    @property
    def failures(self) -> Counter[str]:
        """See `JudgeClient.failures`."""
        return self._judge.failures if self._judge is not None else Counter()

    @property
    def retried(self) -> Counter[str]:
        """See `JudgeClient.retried`."""
        return self._judge.retried if self._judge is not None else Counter()

    def close(self) -> None:
        """End processes and connections."""
        if self._function is not None:
            self._function.close()
        if self._judge is not None:
            self._judge.close()

    def own_answer(self, trace: Trace) -> str | None:
        """Return the category of the trace's own response; asks for a function only.

        A judge or tests would be asked for nothing: their rewards compare with no answer.
        """
        if self._function is None:
            return None
        given = self.grade(trace.response, trace.reference, trace)
        return given.answer if isinstance(given, Given) else None

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome | Given:
        """Grade one response; a function's answer is left to be named and compared."""
        try:
            if self._function is not None:
                return self._call(self._function, response, reference, trace)
            if self._code is not None:
                return self._code.grade(response, reference)
            assert self._judge is not None
            return self._judge.grade(response, reference, trace)
        except HelperError as e:
            return Outcome(None, None, "ungraded", str(e))

    def _call(
        self, function: FunctionGrader, response: str, reference: str | None, trace: Trace | None
    ) -> Outcome | Given:
        name = trace.trace_id if trace is not None else None
        parts = ["function-v1", function.name, function.source_hash, response, reference, name]
        key = content_hash(parts, size=16)
        found = self._cache.get(key)
        if found is None:
            found = self._cache.put(key, function.call(response, reference, trace))
        answer, reward = found["answer"], found["reward"]
        if answer is not None:
            return Given(str(answer), reward)
        if reward is not None:
            return Given(f"{reward:.12g}", reward)
        return Outcome(UNANSWERED, 0.0, "unanswered")
