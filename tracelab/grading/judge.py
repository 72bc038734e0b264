"""An LLM judge behind an OpenAI-compatible endpoint.

`judge_prompt` says what is asked and what counts as an answer; here is who asks. The endpoint is
given (`Setup.connect`); after 429, 408, 5xx, a timeout or a lost connection it is asked again,
waiting longer each time (`Retry-After` is obeyed). What it does not answer is `ungraded` and
counted by kind in `failures`:

    rate_limited   429, to the last attempt
    server_error   408, 5xx, to the last attempt
    timeout        no complete reply within `timeout_s`, to the last attempt
    connection     no connection, or it broke, to the last attempt
    refused        any other status: a wrong key, model or request; never asked again
    malformed      status 200, but not the API's JSON, or no text in it; never asked again
    unclear        a reply that `parse_judgement` does not accept; never asked again
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracelab.core.api_key import api_key
from tracelab.core.errors import ConfigError, GradingError
from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.outside import decode
from tracelab.core.seam import EndpointError, RewardKind, at_endpoint
from tracelab.core.trace import Trace
from tracelab.grading.judge_prompt import judge_messages, judgement_schema, parse_judgement
from tracelab.grading.registry import OUTCOMES
from tracelab.grading.rule import Setup, WaitingRule
from tracelab.text.tags import parted

if TYPE_CHECKING:
    from tracelab.grading.options import GradingConfig


@OUTCOMES.register("judge", order=90)
class JudgeRule(WaitingRule):
    """An LLM's opinion, asked for by a rubric.

    Replies are kept as they came, by endpoint, model, sampling and messages, unclear ones too, so
    that a resumed run reads what the first one read. Failures of the transport are not kept: the
    next session asks again.
    """

    fields = ("judge", "workers")
    evidence = "judged"

    def __init__(self, config: GradingConfig, setup: Setup) -> None:
        """Prepare; connects to nothing.

        Raises:
            GradingError: The key's environment variable is not set, or there is no connection.
        """
        super().__init__(config, setup)
        if setup.connect is None:
            raise GradingError("kind `judge` needs a connection, and none was given")
        judge = self._judge = config.judge
        try:
            key = api_key(judge.api_key_env, "grading.judge.api_key_env")
        except ConfigError as e:
            raise GradingError(str(e)) from None
        self._base_url = judge.base_url.rstrip("/")
        self._endpoint = setup.connect(
            f"{self._base_url}/chat/completions",
            api_key=key,
            timeout_s=judge.timeout_s,
            attempts=judge.attempts,
            backoff_s=judge.backoff_s,
            concurrency=config.workers,
        )
        self._cache = setup.cache
        self._lock = threading.Lock()
        self._failures: Counter[str] = Counter()

    @classmethod
    def check(cls, config: GradingConfig) -> None:
        """See `OutcomeRule.check`."""
        for name in ("base_url", "model", "rubric"):
            if not getattr(config.judge, name).strip():
                raise ValueError(f"`judge.{name}` is needed for kind `judge`")

    @property
    def failures(self) -> Mapping[str, int]:
        """See `WaitingRule.failures`."""
        return self._failures

    @property
    def retried(self) -> Mapping[str, int]:
        """See `WaitingRule.retried`."""
        return self._endpoint.retried

    def reward_kind(self, reference: str | None, own_answer: str | None) -> RewardKind:
        """See `OutcomeRule.reward_kind`."""
        return "outcome"

    def close(self) -> None:
        """See `WaitingRule.close`."""
        self._endpoint.close()

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome:
        """See `WaitingRule.grade`."""
        config = self._judge
        text = parted(response)[1] if config.part == "answer" else response
        if not text.strip():
            return Outcome(UNANSWERED, 0.0, "unanswered")
        question = None
        if trace is not None:
            question = next((t.text for t in reversed(trace.prompt) if t.role == "user"), None)
        messages = judge_messages(
            text,
            config.rubric,
            labels=list(config.labels),
            question=question,
            reference=reference if config.show_reference else None,
        )
        try:
            outcome = parse_judgement(self._reply(messages), config.labels)
        except EndpointError as e:
            self._failed(e.kind)
            words = e.kind.replace("_", " ")
            why = f"The judge's endpoint gave no judgement: {words} ({e.why})."
            return Outcome(None, None, "ungraded", why)
        if outcome.status == "ungraded":
            self._failed("unclear")
        return outcome

    def _reply(self, messages: list[dict[str, str]]) -> str:
        config = self._judge
        body: dict[str, Any] = {
            "model": config.model,
            "messages": messages,
            "temperature": config.temperature,
            "seed": config.seed,
            "max_tokens": config.max_tokens,
        }
        if config.structured:
            schema = judgement_schema(list(config.labels))
            body["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "judgement", "strict": True, "schema": schema},
            }
        key = content_hash(["judge-v1", self._base_url, body], size=16)
        known = self._cache.get(key)
        if known is None or not isinstance(known.get("reply"), str):
            known = self._cache.put(key, self._asked(key, body))
        return str(known["reply"])

    def _asked(self, key: str, body: dict[str, Any]) -> dict[str, Any]:
        """A reply, and what it cost; what a failure cost is kept too."""
        began, sent, read, wrote = time.monotonic(), 0, None, None
        try:
            content, sent = self._endpoint.post(body)
            read, wrote = _usage(content)
            text = _text(content)
        except EndpointError as e:
            cost = at_endpoint(sent or e.attempts, read, wrote, time.monotonic() - began)
            self._cache.lost(key, str(e), cost)
            raise
        return {"reply": text, **at_endpoint(sent, read, wrote, time.monotonic() - began)}

    def _failed(self, kind: str) -> None:
        with self._lock:
            self._failures[kind] += 1


def _usage(content: bytes) -> tuple[int | None, int | None]:
    """Tokens of the prompt and of the reply, where the endpoint tells."""
    try:
        usage = decode(content)["usage"]
        read, wrote = usage.get("prompt_tokens"), usage.get("completion_tokens")
    except (ValueError, LookupError, TypeError, AttributeError):
        return None, None
    read, wrote = (n if type(n) is int and 0 <= n < 1 << 40 else None for n in (read, wrote))
    return read, wrote


def _text(content: bytes) -> str:
    try:
        text = decode(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError):
        raise EndpointError("malformed", "it did not send a completion") from None
    if not isinstance(text, str):
        raise EndpointError("malformed", "the completion has no text")
    return text
