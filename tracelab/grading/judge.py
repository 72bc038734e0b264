"""An LLM judge behind an OpenAI-compatible endpoint.

`judge_prompt` says what is asked and what counts as an answer; here is the client. After 429, 408,
5xx, a timeout or a lost connection it asks again, waiting longer each time (`Retry-After` is
obeyed); what it cannot get is `ungraded` and counted by kind in `failures`:

    rate_limited   429, to the last attempt
    server_error   408, 5xx, to the last attempt
    timeout        no complete reply within `timeout_s`, to the last attempt
    connection     no connection, or it broke, to the last attempt
    refused        any other status: a wrong key, model or request; never asked again
    malformed      status 200, but not the API's JSON, or no text in it; never asked again
    unclear        a reply that `parse_judgement` does not accept; never asked again

Replies are kept in the cache as they came, unclear ones too, so that a resumed run reads what the
first one read. Failures of the transport are not kept: the next session asks again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter
from typing import Any

import httpx
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_any,
    stop_when_event_set,
)
from tenacity.wait import wait_exponential, wait_random

from tracelab.core.errors import GradingError
from tracelab.core.hashing import content_hash
from tracelab.core.item import UNANSWERED, Outcome
from tracelab.core.trace import Trace
from tracelab.engines.http import retry_after
from tracelab.grading.cache import OutcomeCache
from tracelab.grading.judge_prompt import judge_messages, judgement_schema, parse_judgement
from tracelab.grading.options import JudgeConfig

__all__ = ["JudgeClient", "JudgeError", "judge_messages", "parse_judgement"]

_LONGEST_BODY = 4 << 20  # bytes
_LONGEST_WAIT = 60.0  # seconds, also for Retry-After
_AGAIN = frozenset({"rate_limited", "server_error", "timeout", "connection"})


class JudgeError(Exception):
    """One attempt failed.

    Attributes:
        kind: A key of `failures`.
        retry_after: Seconds the endpoint asked to wait; None if it did not.
    """

    def __init__(self, kind: str, message: str, retry_after: float | None = None) -> None:
        """Say what happened, in one sentence."""
        super().__init__(message)
        self.kind, self.retry_after = kind, retry_after


class JudgeClient:
    """Asks the judge. Thread-safe: as many threads may call it as are to be in flight."""

    def __init__(self, config: JudgeConfig, concurrency: int, cache: OutcomeCache) -> None:
        """Prepare; connects to nothing.

        Raises:
            GradingError: The key's environment variable is not set.
        """
        self.config = config
        self.failures: Counter[str] = Counter()
        """Responses that stayed ungraded, by kind."""
        self.retried: Counter[str] = Counter()
        """Attempts that failed and were made again, by kind."""
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._cache = cache
        headers = {"Accept-Encoding": "identity"}  # a small reply must not unpack to a large one
        if config.api_key_env is not None:
            key = os.environ.get(config.api_key_env, "").strip()
            if not key:
                raise GradingError(
                    f"grading.judge.api_key_env: the environment variable {config.api_key_env} "
                    "is not set"
                )
            if not key.isascii() or not key.isprintable():
                raise GradingError(
                    f"grading.judge.api_key_env: {config.api_key_env} does not hold a key"
                )
            headers["Authorization"] = f"Bearer {key}"
        self._headers = headers
        self._concurrency = concurrency
        self._http: httpx.Client | None = None
        doubling = wait_exponential(multiplier=config.backoff_s, max=_LONGEST_WAIT)
        backoff = doubling + wait_random(0, config.backoff_s)
        self._retrying = Retrying(
            retry=retry_if_exception(lambda e: isinstance(e, JudgeError) and e.kind in _AGAIN),
            wait=lambda state: max(backoff(state), _asked_to_wait(state)),
            before_sleep=self._count_retry,
            reraise=True,
        )

    def close(self) -> None:
        """Close the connections and end all waiting; the next judgement opens others."""
        with self._lock:
            self._closed.set()
            self._closed = threading.Event()  # those who wait hold the old one
            if self._http is not None:
                self._http.close()
            self._http = None

    def _client(self) -> httpx.Client:
        with self._lock:
            if self._http is None:
                self._http = httpx.Client(
                    headers=self._headers,
                    timeout=self.config.timeout_s,
                    limits=httpx.Limits(max_connections=self._concurrency),
                )
            return self._http

    def grade(self, response: str, reference: str | None, trace: Trace | None) -> Outcome:
        """Ask for a judgement of a response."""
        config = self.config
        text = response.rpartition("</think>")[2] if config.part == "answer" else response
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
        except JudgeError as e:
            self._count(self.failures, e.kind)
            return Outcome(None, None, "ungraded", str(e))
        if outcome.status == "ungraded":
            self._count(self.failures, "unclear")
        return outcome

    def _reply(self, messages: list[dict[str, str]]) -> str:
        config = self.config
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
        key = content_hash(["judge-v1", config.base_url.rstrip("/"), body], size=16)
        known = self._cache.get(key)
        if known is None or not isinstance(known.get("reply"), str):
            closed = self._closed
            retrying = self._retrying.copy(
                sleep=sleep_using_event(closed),
                stop=stop_any(stop_after_attempt(config.attempts), stop_when_event_set(closed)),
            )
            text = retrying(self._ask, body)
            known = self._cache.put(key, {"reply": text})
        return str(known["reply"])

    def _ask(self, body: dict[str, Any]) -> str:
        """Make one attempt; return the text of the reply.

        Raises:
            JudgeError: It failed.
        """
        url = f"{self.config.base_url.rstrip('/')}/chat/completions"
        deadline = time.monotonic() + self.config.timeout_s
        late = f"The judge took longer than {self.config.timeout_s:g} s."
        content = b""
        try:
            with self._client().stream("POST", url, json=body) as reply:
                for part in reply.iter_bytes():
                    content += part
                    if len(content) > _LONGEST_BODY:
                        raise JudgeError("malformed", "The judge's reply is too long.")
                    if time.monotonic() > deadline:  # httpx's own is for each part
                        raise JudgeError("timeout", late)
        except httpx.TimeoutException:
            raise JudgeError("timeout", late) from None
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as e:
            why = type(e).__name__
            raise JudgeError("connection", f"The judge cannot be reached ({why}).") from None
        except (httpx.InvalidURL, httpx.RequestError, RuntimeError) as e:  # closed meanwhile
            why = type(e).__name__
            raise JudgeError("refused", f"The judge cannot be asked ({why}).") from None
        status = reply.status_code
        if status == 429:
            wait = retry_after(reply.headers.get("retry-after"))
            raise JudgeError("rate_limited", "The judge has no time for us (429).", wait)
        if status == 408 or status >= 500:
            wait = retry_after(reply.headers.get("retry-after"))
            raise JudgeError("server_error", f"The judge's endpoint failed ({status}).", wait)
        if status != 200:
            said = " ".join(content[:300].decode("utf-8", "replace").split())
            raise JudgeError("refused", f"The judge's endpoint refused ({status}): {said}")
        return _text(content)

    def _count_retry(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, JudgeError):
            self._count(self.retried, error.kind)

    def _count(self, counter: Counter[str], kind: str) -> None:
        with self._lock:
            counter[kind] += 1


def _text(content: bytes) -> str:
    try:
        text = json.loads(content)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise JudgeError("malformed", "The judge's endpoint did not send a completion.") from None
    if not isinstance(text, str):
        raise JudgeError("malformed", "The judge's completion has no text.")
    return text


def _asked_to_wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome is not None else None
    wait = error.retry_after if isinstance(error, JudgeError) else None
    return min(max(wait or 0.0, 0.0), _LONGEST_WAIT)
