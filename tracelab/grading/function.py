"""A user's own outcome function, `module:function`, in helper processes that can be killed.

    def outcome(response: str, *, reference: str | None, trace: dict) -> float | str | dict

- a number in [0, 1] is the reward (True and False are 1 and 0);
- a string is the answer: its reward is 1 when it is the reference or, without one, the trace's own
  answer;
- `{"reward": ..., "answer": ...}` gives either or both; `{"answer": None}` is `unanswered`.

A reward without an answer has itself as its answer category (`0.25`). Anything else is `ungraded`
with the reason: an exception, NaN, a reward outside [0, 1], None (a forgotten `return`), a missed
deadline, the end of the process.

The function is the user's own code and is trusted: it may import, read and write. What it may not
do is hang the run or take it down. It must be deterministic, or a resumed run grades differently:
give the grader a folder and the first grade is kept.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import numbers
import os
import queue
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tracelab.core.errors import GradingError
from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.seam import RewardKind
from tracelab.core.trace import Trace
from tracelab.grading.helper import CannotServeError, Helper, HelperError, StartError, serve
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Given, Setup, WaitingRule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tracelab.grading.options import GradingConfig


@OUTCOMES.register("function", order=70)
class FunctionRule(WaitingRule):
    """A function of yours, `module:function`.

    First results are kept by the function's name and its module's file, the response, the reference
    and the trace. Failures are not kept. A change in what that file imports is not noticed.
    """

    fields = ("function", "workers")

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        super().__init__(config, setup)
        assert config.function is not None
        self._function = FunctionGrader(config.function, config.timeout_s, config.workers)
        self._cache = setup.cache

    @classmethod
    def check(cls, config: GradingConfig) -> None:
        """See `OutcomeRule.check`."""
        if config.function is None:
            raise ValueError("`function` is needed for kind `function`")

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind:
        """See `OutcomeRule.reward_kind`."""
        return "outcome"

    def close(self) -> None:
        """See `WaitingRule.close`."""
        self._function.close()

    def own_answer(self, trace: Trace) -> str | None:
        """See `WaitingRule.own_answer`."""
        given = self.grade(trace.response, trace.reference, trace)
        return given.answer if isinstance(given, Given) else None

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome | Given:
        """See `WaitingRule.grade`."""
        name = trace.trace_id if trace is not None else None
        function = self._function
        parts = ["function-v1", function.name, function.source_hash, response, reference, name]
        key = content_hash(parts, size=16)
        found = self._cache.get(key)
        if found is None:
            try:
                called = function.call(response, reference, trace)
            except HelperError as e:
                return Outcome(None, None, "ungraded", str(e))
            found = self._cache.put(key, called)
        answer, reward = found["answer"], found["reward"]
        if answer is not None:
            return Given(str(answer), reward)
        if reward is not None:
            return Given(f"{reward:.12g}", reward)
        return Outcome(UNANSWERED, 0.0, "unanswered")


class FunctionGrader:
    """Calls the function in up to `workers` processes. Thread-safe."""

    def __init__(self, name: str, timeout_s: float, workers: int) -> None:
        """Start one process, so that a function that is not there is known now.

        Raises:
            GradingError: It cannot be imported or called.
        """
        self.name = name
        self._helpers = [
            _Caller(Helper("tracelab.grading.function", [name], timeout_s, f"`{name}`"))
            for _ in range(workers)
        ]
        # Last in, first out: processes that are not needed are never started.
        self._free: queue.LifoQueue[_Caller] = queue.LifoQueue()
        for helper in reversed(self._helpers):
            self._free.put(helper)
        try:
            self.source_hash = self._helpers[0].start()
        except StartError as e:
            self.close()
            raise GradingError(f"grading.function = {name!r}: {e}") from None

    def close(self) -> None:
        """End the processes."""
        for helper in self._helpers:
            helper.close()

    def call(self, response: str, reference: str | None, trace: Trace | None) -> dict[str, Any]:
        """Call the function.

        Returns:
            `{"reward": number or None, "answer": string or None}`: what it gave; both None is
            "no answer".

        Raises:
            HelperError: It failed, or gave something else.
        """
        with self._borrowed() as helper:
            return helper.call(response, reference, trace)

    @contextmanager
    def _borrowed(self) -> Iterator[_Caller]:
        helper = self._free.get()
        try:
            yield helper
        finally:
            self._free.put(helper)


class _Caller:
    """One process, and the trace it was told last: rollouts come trace by trace."""

    def __init__(self, helper: Helper) -> None:
        self._helper = helper
        self._told: tuple[object, str] | None = None
        self.close = helper.close

    def start(self) -> str:
        self._helper.start()
        return str(self._helper.ask({"do": "hash"}))

    def call(self, response: str, reference: str | None, trace: Trace | None) -> dict[str, Any]:
        request: dict[str, Any] = {"do": "call", "response": response, "reference": reference}
        key = trace.trace_id if trace is not None else ""
        if self._told != (self._helper.process, key) or self._helper.process is None:
            request["trace"] = json.dumps(shown(trace))
        reply = self._helper.ask(request)
        if reply == {"again": True}:  # a new process, which was told nothing
            request["trace"] = json.dumps(shown(trace))
            reply = self._helper.ask(request)
        self._told = (self._helper.process, key)
        if "error" in reply:
            raise HelperError(f"The outcome function failed: {reply['error']}")
        return dict(reply)


def shown(trace: Trace | None) -> dict[str, Any]:
    """The trace as the function sees it: JSON values, without token ids."""
    if trace is None:
        return {}
    data = trace.to_json()
    turns = [{k: v for k, v in t.items() if k != "token_ids"} for t in data["turns"]]
    return {**data, "turns": turns, "trace_id": trace.trace_id}


def checked(value: Any) -> dict[str, Any]:
    """Bring what the function returned into one form.

    Raises:
        ValueError: It is not an outcome.
    """
    if isinstance(value, Mapping):
        unknown = sorted(str(k)[:40] for k in value if k not in ("reward", "answer"))
        if unknown or not value:
            raise ValueError(
                f"it returned a dict with the unknown key {unknown[0]!r}; known: reward, answer"
                if unknown
                else "it returned an empty dict"
            )
        reward, answer = value.get("reward"), value.get("answer")
        if reward is None and "answer" not in value:
            raise ValueError("it returned a reward of None and no answer")
    elif isinstance(value, str):
        reward, answer = None, value
    elif value is None:
        raise ValueError("it returned None: is a `return` missing?")
    else:
        reward, answer = value, None
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise ValueError(f"its answer is {_shown(answer)}, not a text")
    if reward is not None:
        if hasattr(reward, "item"):
            reward = reward.item()  # a numpy or torch scalar
        if not isinstance(reward, numbers.Real):
            raise ValueError(f"its reward is {_shown(reward)}, not a number")
        reward = float(reward)
        if not 0 <= reward <= 1:  # NaN too
            raise ValueError(f"its reward {reward:g} is not in [0, 1]")
        if isinstance(value, Mapping) and "answer" in value and answer is None and reward != 0:
            raise ValueError("it gave a reward but None as its answer")
    no_answer = isinstance(value, Mapping) and "answer" in value and answer is None
    return {"reward": None if no_answer else reward, "answer": answer}


def _shown(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"


def load(name: str) -> tuple[Callable[..., Any], str]:
    """Import `module:function`; return it and a hash of its module's file ("" without a file).

    Raises:
        ValueError: One sentence on what is missing.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as e:
        missing = str(e.name or "")
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise ValueError(
                f"there is no module `{missing}` in {os.getcwd()} or among the installed packages"
            ) from None
        raise ValueError(f"module `{module_name}` needs `{missing}`, which is missing") from None
    source = getattr(found, "__file__", None)
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"module `{module_name}` has no function `{path}`")
        found = getattr(found, part)
    if not callable(found):
        raise ValueError(f"`{name}` is not a function")
    try:
        with open(source or os.devnull, "rb") as f:
            text = f.read().hex()
    except OSError:
        text = ""
    return found, content_hash(text) if text else ""


def _prepare(name: str) -> Callable[[Any], Any]:
    sys.path.insert(0, os.getcwd())  # where the user is; the helper itself runs with -P
    try:
        function, source_hash = load(name)
    except ValueError as e:
        raise CannotServeError(str(e)) from None
    trace: str | None = None

    def answer(request: dict[str, Any]) -> Any:
        nonlocal trace
        if request["do"] == "hash":
            return source_hash
        trace = request.get("trace", trace)
        if trace is None:
            return {"again": True}
        # A fresh copy each time: what the function does to it must not reach the next grade.
        found = function(
            request["response"], reference=request["reference"], trace=json.loads(trace)
        )
        try:
            return checked(found)
        except ValueError as e:
            return {"error": str(e)}

    return answer


if __name__ == "__main__":
    serve(float(sys.argv[1]), lambda: _prepare(sys.argv[2]))
