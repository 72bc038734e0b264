r"""Rollouts into outcomes: find the answer, name its category, decide whether it is right.

`Grader.grade` takes the whole response (kept prefix and generated text) and returns an `Outcome`;
`Grader.grade_many` takes many and, for the kinds that wait for others, grades several at once.

- The **answer** is a canonical string, so that equal answers share a category: plain integers,
  decimals and fractions by value (`7`, `7.0`, `\frac{14}{2}`), everything else by its text
  without LaTeX wrappers. Two different answers never share one.
- The **reward** is 1 when the answer equals the reference or, without a reference, the trace's own
  answer (`reward_kind`), else 0. Equality is decided here where that is certain, otherwise by
  math-verify in a killable process (`tracelab.grading.equality`). The kinds `yes_no`, `function`,
  `code` and `judge` decide the reward themselves (`tracelab.grading`).
- No answer is `unanswered`, reward 0, also when the rollout was cut off (its `finish_reason` is
  stored elsewhere). A grader that fails or takes too long gives `ungraded`: unknown is not wrong.

Nothing in a response is ever evaluated in this process. Thread-safe.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, FinishReason, Outcome
from tracelab.core.seam import GradeRequest, RewardKind
from tracelab.core.trace import Trace
from tracelab.grading.equality import EqualityError, MathEquality, StartError
from tracelab.grading.options import BLOCKING, CodeConfig, GradingConfig, JudgeConfig
from tracelab.grading.yes_no import find_yes_no
from tracelab.text.answers import canonical, extract_boxed, surely_equal, surely_number

if TYPE_CHECKING:
    from tracelab.grading.blocking import BlockingGrader, Given

__all__ = ["CodeConfig", "GradeRequest", "Grader", "GradingConfig", "JudgeConfig", "RewardKind"]

_ANSWER_PHRASE = r"(?i:answer|choice|option)\b[^\n]{0,20}?(?:\b(?i:is|be)\b|:|=)[\s*$\\({]*"
_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_CACHE_LIMIT = 100_000


class Grader:
    """Grades responses; holds helper processes, threads and connections, started when needed."""

    def __init__(
        self, config: GradingConfig | None = None, *, cache_dir: Path | None = None
    ) -> None:
        """Prepare what the configuration says.

        Only the kinds that run something of the user's start a process here, to try it.

        Args:
            config: What to grade by.
            cache_dir: Where the kinds `function`, `code` and `judge` keep their first results, so
                that a resumed or rebuilt run reads the same ones; None keeps them in memory.

        Raises:
            GradingError: The function, the tests, the key or the sandbox is not there.
        """
        self.config = config or GradingConfig()
        flags = 0 if self.config.case_sensitive else re.IGNORECASE
        self._positive = re.compile(self.config.positive, flags)
        self._negative = re.compile(self.config.negative, flags)
        self._pattern = re.compile(self.config.pattern or "")
        letters = self.config.choices
        self._phrase = re.compile(rf"{_ANSWER_PHRASE}([{letters}])(?![\w'’])")
        self._line = re.compile(rf"^[\s*#>($\\]*([{letters}])[\s*.)$\\]*$", re.MULTILINE)
        self._equality = MathEquality(self.config.timeout_s)
        self._cache: dict[tuple[str, str], bool | str] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._blocking: BlockingGrader | None = None
        if self.config.kind in BLOCKING:
            from tracelab.grading.blocking import BlockingGrader  # httpx and more: only if used

            self._blocking = BlockingGrader(self.config, cache_dir)

    def __enter__(self) -> Self:
        """Return the grader; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End helper processes, threads and connections. The grader can still be used."""
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False, cancel_futures=True)
        if self._blocking is not None:
            self._blocking.close()  # ends what the threads wait for
        if threads is not None:
            threads.shutdown()
        self._equality.close()

    @property
    def evidence(self) -> Literal["executed", "judged"]:
        """What scores of these outcomes rest on; an LLM's opinion is never mixed with the rest."""
        return "judged" if self.config.kind == "judge" else "executed"

    @property
    def failures(self) -> Mapping[str, int]:
        """Responses a judge left ungraded, by kind (`tracelab.grading.judge`); else empty."""
        return self._blocking.failures if self._blocking is not None else Counter()

    @property
    def retried(self) -> Mapping[str, int]:
        """Attempts that failed and were made again, by kind; for a judge, else empty."""
        return self._blocking.retried if self._blocking is not None else Counter()

    @property
    def fingerprint(self) -> str:
        """Hash of all that decides outcomes, contents of the tests file and function included."""
        inputs = self._blocking.inputs if self._blocking is not None else ""
        return content_hash([self.config.model_dump(mode="json"), inputs])

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """Tell what the reward compares with; None when there is nothing to compare with.

        `outcome`: it compares with nothing of the trace's, the outcome function decides.
        """
        if self.config.kind in ("yes_no", "function", "judge"):
            return "outcome"
        if self.config.kind == "code":
            tested = reference is not None or self.config.code.tests_file is not None
            return "outcome" if tested else None
        if reference is not None:
            return "reference"
        return "own_answer" if own_answer is not None else None

    def own_answer(self, trace: Trace) -> str | None:
        """Return a trace's own answer: the recorded one, else what this grader finds in it."""
        if trace.answer is not None:
            return trace.answer
        if self._blocking is None:
            return self.extract(trace.response)
        return self._blocking.own_answer(trace)

    def extract(self, response: str) -> str | None:
        """Return the answer as written, or None; for `function`, `code` and `judge` always None.

        What follows `</think>` is searched first; the reasoning only if there is none there.
        """
        if self._blocking is not None:
            return None
        head, tag, tail = response.rpartition("</think>")
        if tag and (answer := self._find(tail)) is not None:
            return answer
        return self._find(head if tag else response)

    def category(self, answer: str) -> str:
        """Return the canonical form of an answer as written."""
        name = canonical(answer, fold=not self.config.case_sensitive)
        # An answer that spells the category of no answer must not join it.
        return f'"{name}"' if name == UNANSWERED else name

    def grade_many(self, requests: Iterable[GradeRequest]) -> list[Outcome]:
        """Grade responses, `workers` at once for the kinds that wait; in the order given."""
        requests = list(requests)
        if self._blocking is None or len(requests) < 2:
            return [self._grade(r) for r in requests]
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.config.workers, "tracelab-grade")
        return list(self._threads.map(self._grade, requests))

    def _grade(self, r: GradeRequest) -> Outcome:
        return self.grade(
            r.response,
            reference=r.reference,
            own_answer=r.own_answer,
            finish_reason=r.finish_reason,
            trace=r.trace,
        )

    def grade(
        self,
        response: str,
        *,
        reference: str | None,
        own_answer: str | None,
        finish_reason: FinishReason,
        trace: Trace | None = None,
    ) -> Outcome:
        """Grade one response.

        Args:
            response: Its whole text, kept prefix included.
            reference: The correct answer, if known.
            own_answer: The trace's own answer: what is compared with when there is no reference.
            finish_reason: How it ended; `error` is ungraded.
            trace: The trace under study: what a function is given, and a judge told the question.
        """
        if finish_reason == "error":
            return _ungraded("The engine did not finish this rollout.")
        if self._blocking is not None:
            given = self._blocking.grade(response, reference, trace)
            if isinstance(given, Outcome):
                return given
            return self._settled(given, reference, own_answer)
        answer = self.extract(response)
        if answer is None:
            return Outcome(UNANSWERED, 0.0, "unanswered")
        if self.config.kind == "yes_no":
            return Outcome(answer, float(answer == "yes"), "graded")
        target = reference if reference is not None else own_answer
        if target is None:
            return _ungraded("There is neither a reference nor an answer of the trace's own.")
        try:
            name = self.category(answer)
            equal = self._equal(answer, name, target)
        except EqualityError as e:
            return _ungraded(str(e))
        return Outcome(name, float(equal), "graded")

    def _settled(self, given: Given, reference: str | None, own_answer: str | None) -> Outcome:
        """Complete what a function gave: a category for its answer, a reward if it gave none."""
        name = self.category(given.answer)
        if given.reward is not None:
            return Outcome(name, given.reward, "graded")
        target = reference if reference is not None else own_answer
        if target is None:
            return _ungraded("The function gave an answer, but there is none to compare it with.")
        return Outcome(name, float(name == self.category(target)), "graded")

    def _find(self, text: str) -> str | None:
        kind = self.config.kind
        if kind == "boxed":
            return extract_boxed(text)
        if kind == "regex":
            group = next(iter(self._pattern.groupindex))
            found = [m[group] for m in self._pattern.finditer(text) if (m[group] or "").strip()]
            return found[-1].strip() if found else None
        if kind == "number":
            boxed = extract_boxed(text)
            if boxed is not None and surely_number(boxed) is not None:
                return boxed
            numbers = _NUMBER.findall(text)
            return numbers[-1] if numbers else None
        if kind == "choice":
            return self._find_choice(text)
        if kind == "yes_no":
            return find_yes_no(text, self._positive, self._negative)
        lines = text.strip().splitlines()
        return lines[-1].strip() if lines else None

    def _find_choice(self, text: str) -> str | None:
        boxed = extract_boxed(text)
        if boxed is not None:
            letter = canonical(boxed, fold=False).strip("().: ")
            if len(letter) == 1 and letter in self.config.choices:
                return letter
        # The phrase or the lone letter that comes last. A bare "A" in prose is an article.
        found = [*self._phrase.finditer(text), *self._line.finditer(text)]
        return max(found, key=lambda m: m.start(1))[1] if found else None

    def _equal(self, answer: str, name: str, target: str) -> bool:
        boxed = extract_boxed(target)
        target = target if boxed is None else boxed
        wanted = self.category(target)
        if name == wanted:
            return True
        if self.config.kind == "number":
            a, b = surely_number(answer), surely_number(target)
            if a is None or b is None:
                return False
            return abs(a - b) <= abs(b) * self.config.tolerance
        if self.config.kind in ("choice", "exact"):
            return False
        certain = surely_equal(name, wanted)
        return self._verify(answer, name, target, wanted) if certain is None else certain

    def _verify(self, answer: str, name: str, target: str, wanted: str) -> bool:
        key = (name, wanted)
        known = self._cache.get(key)
        if known is None:
            try:
                known = self._equality.equal(answer, target)
            except StartError:
                raise
            except EqualityError as e:
                known = str(e)  # remembered too: a hostile answer costs its deadline once
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = known
        if isinstance(known, str):
            raise EqualityError(known)
        return known


def _ungraded(why: str) -> Outcome:
    return Outcome(None, None, "ungraded", why)
