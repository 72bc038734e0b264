r"""Rollouts into outcomes: find the answer, name its category, decide whether it is right.

`Grader.grade` takes the whole response (kept prefix and generated text) and returns an `Outcome`;
`Grader.grade_many` takes many and, for the kinds that wait for others, grades several at once.

- The **answer** is a canonical string, so that equal answers share a category: plain integers,
  decimals and fractions by value (`7`, `7.0`, `\frac{14}{2}`), everything else by its text
  without LaTeX wrappers. Two different answers never share one.
- The **reward** is 1 when the answer equals the reference or, without a reference, the trace's own
  answer (`reward_kind`), else 0. Equality is decided here where that is certain, otherwise by
  math-verify in a killable process (`tracelab.grading.equality`). Some kinds decide the reward
  themselves (`tracelab.grading.rule`).
- No answer is `unanswered`, reward 0. So is, unless `truncated` says otherwise, whatever the limit
  of tokens cut, with `truncated: ...` for a detail and whatever stands in it: what the model was
  about to take back is no answer. It is not excluded, because V is the chance of the right answer
  *within the limit*; left out, long rollouts would make V that of the short ones, and neither
  recycling nor certificates would hold. It is counted among the failures.
- A grader that fails, in whatever way, or takes too long gives `ungraded`: unknown is not wrong,
  and one text never stops the run.

Nothing in a response is ever evaluated in this process. Thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Literal, Self

from tracelab.core.errors import TracelabError
from tracelab.core.item import TRUNCATED, UNANSWERED, FinishReason, Outcome
from tracelab.core.seam import Connect, GradeRequest, RewardKind
from tracelab.core.trace import Trace
from tracelab.grading.cache import MemoryOutcomes, OutcomeCache
from tracelab.grading.equality import EqualityError, MathEquality, StartError
from tracelab.grading.options import CodeConfig, GradingConfig, JudgeConfig
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Given, OutcomeRule, Setup, TextRule, WaitingRule
from tracelab.text.answer.compare import Verdict, compare
from tracelab.text.answer.forms import bare, canonical
from tracelab.text.answer.stated import given_answer
from tracelab.text.tags import parted

__all__ = ["CodeConfig", "GradeRequest", "Grader", "GradingConfig", "JudgeConfig", "RewardKind"]

_CACHE_LIMIT = 100_000
_CUT = f"{TRUNCATED}: the limit of tokens came before the end of the response."


class Grader:
    """Grades responses; holds helper processes, threads and connections, started when needed."""

    def __init__(
        self,
        config: GradingConfig | None = None,
        *,
        cache: OutcomeCache | None = None,
        connect: Connect | None = None,
    ) -> None:
        """Prepare what the configuration says.

        Only the kinds that run something of the user's start a process here, to try it.

        Args:
            config: What to grade by.
            cache: Where kinds that wait for others keep their first results, so that a resumed or
                rebuilt run reads the same ones; None keeps them in memory.
            connect: Prepares the endpoint of a judge; without it there is no judge.

        Raises:
            GradingError: The function, the tests, the key or the sandbox is not there.
        """
        self.config = config or GradingConfig()
        self._equality = MathEquality(self.config.timeout_s)
        self._cache: dict[tuple[str, str], Verdict | EqualityError] = {}
        self._targets: dict[str, tuple[str, str]] = {}  # as compared, and its category
        self._threads: ThreadPoolExecutor | None = None
        kind = self.config.kind
        self._rule: OutcomeRule = OUTCOMES.named(kind, "grading.kind")(
            self.config, Setup(cache or MemoryOutcomes(), connect)
        )

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
        if isinstance(self._rule, WaitingRule):
            self._rule.close()  # ends what the threads wait for
        if threads is not None:
            threads.shutdown()
        self._equality.close()

    @property
    def evidence(self) -> Literal["executed", "judged"]:
        """What scores of these outcomes rest on; an LLM's opinion is never mixed with the rest."""
        return self._rule.evidence

    @property
    def failures(self) -> Mapping[str, int]:
        """Responses that stayed ungraded, by kind (`tracelab.grading.judge`); else empty."""
        return self._rule.failures if isinstance(self._rule, WaitingRule) else {}

    @property
    def retried(self) -> Mapping[str, int]:
        """Attempts that failed and were made again, by kind; for a judge, else empty."""
        return self._rule.retried if isinstance(self._rule, WaitingRule) else {}

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind | None:
        """Tell what the reward compares with; None when there is nothing to compare with.

        `outcome`: it compares with nothing of the trace's, the outcome function decides.
        """
        return self._rule.reward_kind(reference, own_answer)

    def own_answer(self, trace: Trace) -> str | None:
        """Return a trace's own answer: the recorded one, else what this grader finds in it."""
        if trace.answer is not None:
            return trace.answer
        try:
            if isinstance(self._rule, WaitingRule):
                return self._rule.own_answer(trace)
            return self.extract(trace.response)
        except (TracelabError, OSError):
            raise
        except Exception:  # an answer that cannot be found out is none
            return None

    def extract(self, response: str) -> str | None:
        """Return the answer as written, or None; always None for kinds that decide by themselves.

        What follows the reasoning is searched first; the reasoning only if there is none there.
        """
        if not isinstance(self._rule, TextRule):
            return None
        thought, rest = parted(response)
        if not thought:
            return self._rule.find(rest)
        return self._rule.find_after(thought, rest)

    def category(self, answer: str) -> str:
        """Return the canonical form of an answer as written."""
        name = canonical(answer, fold=not self.config.case_sensitive)
        # An answer that spells the category of no answer must not join it.
        return f'"{name}"' if name == UNANSWERED else name

    def grade_many(self, requests: Iterable[GradeRequest]) -> list[Outcome]:
        """Grade responses, `workers` at once for the kinds that wait; in the order given."""
        requests = list(requests)
        if not isinstance(self._rule, WaitingRule) or len(requests) < 2:
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
            finish_reason: How it ended; `error` is ungraded, `length` as the config says.
            trace: The trace under study: what a function is given, and a judge told the question.
        """
        if finish_reason == "error":
            return _ungraded("The engine did not finish this rollout.")
        cut = finish_reason == "length"
        if cut and self.config.truncated == "unanswered":
            return Outcome(UNANSWERED, 0.0, "unanswered", _CUT)
        try:
            found = self._graded(response, reference, own_answer, trace)
        except (TracelabError, OSError):  # what is wrong with the machine is not about one text
            raise
        except Exception as e:  # one text that grading stumbles over must not stop the others
            said = " ".join(str(e)[:400].split())[:200]
            kind = type(e).__name__
            return _ungraded(f"Grading failed: {f'{kind}: {said}' if said else kind}.")
        if cut and found.status == "unanswered":
            return replace(found, detail=_CUT)
        return found

    def _graded(
        self, response: str, reference: str | None, own_answer: str | None, trace: Trace | None
    ) -> Outcome:
        rule = self._rule
        if isinstance(rule, WaitingRule):
            given = rule.grade(response, reference, trace)
            if isinstance(given, Outcome):
                return given
            return self._settled(given, reference, own_answer)
        answer = self.extract(response)
        if answer is None:
            return Outcome(UNANSWERED, 0.0, "unanswered")
        assert isinstance(rule, TextRule)
        if (reward := rule.reward(answer)) is not None:
            return Outcome(answer, reward, "graded")
        target = reference if reference is not None else own_answer
        if target is None:
            return _ungraded("There is neither a reference nor an answer of the trace's own.")
        try:
            name = self.category(answer)
            equal = self._equal(rule, answer, name, target)
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

    def _equal(self, rule: TextRule, answer: str, name: str, target: str) -> bool:
        wanted = self._targets.get(target)
        if wanted is None:
            if len(self._targets) >= _CACHE_LIMIT:
                self._targets.clear()
            short = given_answer(target)
            wanted = self._targets[target] = (short, self.category(short))
        target, category = wanted
        if name == category:
            return True
        if (told := rule.equal(answer, target)) is not None:
            return told
        if self.config.case_sensitive and bare(answer).lower() == bare(target).lower():
            return False
        verdict = self._verdict(answer, name, target, category)
        if verdict == "undecided":
            raise EqualityError(
                f"Whether {_short(answer)} is the {_short(target)} that is wanted cannot be told."
            )
        return verdict == "equal"

    def _verdict(self, answer: str, name: str, target: str, wanted: str) -> Verdict:
        key = (name, wanted)
        known = self._cache.get(key)
        if known is None:
            try:
                known = compare(answer, target)
                if known == "algebra":
                    known = self._equality.verdict(answer, target)
            except StartError:
                raise
            except EqualityError as e:
                known = e  # remembered too: a hostile answer costs its deadline once
            if len(self._cache) >= _CACHE_LIMIT:
                self._cache.clear()
            self._cache[key] = known
        if isinstance(known, EqualityError):
            raise EqualityError(str(known))
        return known


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _ungraded(why: str) -> Outcome:
    return Outcome(None, None, "ungraded", why)
