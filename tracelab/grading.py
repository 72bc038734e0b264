r"""Rollouts into outcomes: find the answer, name its category, decide whether it is right.

`Grader.grade` takes the whole response (kept prefix and generated text) and returns an `Outcome`:

- The **answer** is a canonical string, so that equal answers share a category: plain integers,
  decimals and fractions by value (`7`, `7.0`, `\frac{14}{2}`), everything else by its text
  without LaTeX wrappers. Two different answers never share one.
- The **reward** is 1 when the answer equals the reference or, without a reference, the trace's own
  answer (`reward_kind`), else 0. Equality is decided here where that is certain, otherwise by
  math-verify in a killable process (`tracelab.math_equality`).
- No answer is `unanswered`, reward 0, also when the rollout was cut off (its `finish_reason` is
  stored elsewhere). A grader that fails or takes too long gives `ungraded`: unknown is not wrong.

Nothing in a response is ever evaluated in this process. Thread-safe.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tracelab.answers import canonical, extract_boxed, surely_equal, surely_number
from tracelab.math_equality import EqualityError, MathEquality, StartError
from tracelab.work import UNANSWERED, FinishReason, Outcome

RewardKind = Literal["reference", "own_answer"]

_ANSWER_PHRASE = r"(?i:answer|choice|option)\b[^\n]{0,20}?(?:\b(?i:is|be)\b|:|=)[\s*$\\({]*"
_NUMBER = re.compile(r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?")
_CACHE_LIMIT = 100_000


class GradingConfig(BaseModel):
    """How the answer is found in a response, and when it counts as right."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: Literal["boxed", "regex", "choice", "number", "exact"] = "boxed"
    r"""Where the answer is: the last `\boxed{}`; the last match of `pattern`; a letter of
    `choices`; the last number; or `exact`, the last line that is not blank."""
    pattern: str | None = None
    """For `regex`: a Python regular expression with exactly one named group, the answer."""
    choices: str = Field(default="ABCDE", pattern=r"^[A-Z]{2,26}$")
    """For `choice`: the letters to choose from."""
    tolerance: float = Field(default=0.0, ge=0)
    """For `number`: two numbers are equal up to this share of the reference; 0 is exact."""
    case_sensitive: bool = False
    """Whether `Yes` and `yes` are different answers; single letters always are."""
    timeout_s: float = Field(default=10.0, gt=0, le=600)
    """Seconds for one comparison by math-verify; what takes longer is `ungraded`."""

    @model_validator(mode="after")
    def _check_pattern(self) -> Self:
        if (self.kind == "regex") != (self.pattern is not None):
            raise ValueError("`pattern` is needed for kind `regex`, and only there")
        if self.pattern is not None:
            try:
                groups = re.compile(self.pattern).groupindex
            except re.error as e:
                raise ValueError(f"`pattern` is not a regular expression: {e}") from None
            if len(groups) != 1:
                raise ValueError(f"`pattern` has {len(groups)} named groups; it needs exactly one")
        return self


class Grader:
    """Grades responses; holds at most one helper process, started when first needed."""

    def __init__(self, config: GradingConfig | None = None) -> None:
        """Compile what the configuration says; starts nothing."""
        self.config = config or GradingConfig()
        self._pattern = re.compile(self.config.pattern or "")
        letters = self.config.choices
        self._phrase = re.compile(rf"{_ANSWER_PHRASE}([{letters}])(?![\w'’])")
        self._line = re.compile(rf"^[\s*#>($\\]*([{letters}])[\s*.)$\\]*$", re.MULTILINE)
        self._equality = MathEquality(self.config.timeout_s)
        self._cache: dict[tuple[str, str], bool | str] = {}

    def __enter__(self) -> Self:
        """Return the grader; leaving closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def close(self) -> None:
        """End the helper process, if there is one. The grader can still be used."""
        self._equality.close()

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """Tell what the reward compares with; None when there is nothing to compare with."""
        if reference is not None:
            return "reference"
        return "own_answer" if own_answer is not None else None

    def extract(self, response: str) -> str | None:
        """Return the answer as written, or None.

        What follows `</think>` is searched first; the reasoning only if there is none there.
        """
        head, tag, tail = response.rpartition("</think>")
        if tag and (answer := self._find(tail)) is not None:
            return answer
        return self._find(head if tag else response)

    def category(self, answer: str) -> str:
        """Return the canonical form of an answer as written."""
        name = canonical(answer, fold=not self.config.case_sensitive)
        # An answer that spells the category of no answer must not join it.
        return f'"{name}"' if name == UNANSWERED else name

    def grade(
        self,
        response: str,
        *,
        reference: str | None,
        own_answer: str | None,
        finish_reason: FinishReason,
    ) -> Outcome:
        """Grade one response.

        Args:
            response: Its whole text, kept prefix included.
            reference: The correct answer, if known.
            own_answer: The trace's own answer: what is compared with when there is no reference.
            finish_reason: How it ended; `error` is ungraded.
        """
        if finish_reason == "error":
            return _ungraded("The engine did not finish this rollout.")
        answer = self.extract(response)
        if answer is None:
            return Outcome(UNANSWERED, 0.0, "unanswered")
        target = reference if reference is not None else own_answer
        if target is None:
            return _ungraded("There is neither a reference nor an answer of the trace's own.")
        try:
            name = self.category(answer)
            equal = self._equal(answer, name, target)
        except EqualityError as e:
            return _ungraded(str(e))
        return Outcome(name, float(equal), "graded")

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
