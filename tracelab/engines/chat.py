"""Chat as judges use it: messages in, one reply out. Here: what that is, and an endpoint's client.

A client never raises for one request: what cannot be had is a reply with `error`, `kind: sentence`.

    budget         a cap is reached; none is sent          overlong   the prompt exceeds the context
    engine         the local engine failed                 and the kinds of `tracelab.engines.http`

The kinds are those of `tracelab.grading.judge`, which grades outcomes with the same API.
A local engine is asked through `tracelab.run.answering.LocalChat`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Protocol

from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import EndpointError
from tracelab.core.trace import Role
from tracelab.engines.http import JsonPost


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What is asked: (role, text) messages, and how the reply is sampled."""

    messages: tuple[tuple[Role, str], ...]
    max_tokens: int = 1024
    temperature: float = 0.0
    seed: int = 0
    json_schema: str = ""
    """As in `Sampling`."""


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back.

    Attributes:
        text: The reply; None when there is none.
        finish_reason: `stop`, `length`, or what the endpoint says.
        prompt_tokens: As counted by the server; None when it does not tell.
        output_tokens: As for `prompt_tokens`.
        error: `kind: sentence` when `text` is None.
        attempts: Requests that were sent.
        seconds: What they took, waits between them included.
    """

    text: str | None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    error: str | None = None
    attempts: int = 1
    seconds: float = field(default=0.0, compare=False)


@dataclass(slots=True)
class Budget:
    """Caps on what a client may spend; None is no cap. Tokens are prompt and reply together.

    A request that is asked again counts once: what failed is not charged for.

    What is in flight is reserved at its most (the estimated prompt and `max_tokens`), so a cap is
    kept even by concurrent requests, as far as the estimate of the prompt is right.
    """

    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    input_price: float = 0.0
    """Price of a million prompt tokens, in the unit of `max_cost`."""
    output_price: float = 0.0
    """Price of a million reply tokens."""
    requests: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def cost(self) -> float:
        """Spent, or reserved, so far."""
        spent = self.prompt_tokens * self.input_price + self.output_tokens * self.output_price
        return spent / 1e6

    def reserve(self, prompt: int, output: int) -> str | None:
        """Take what a request may need; say which cap forbids it instead."""
        cost = self.cost + (prompt * self.input_price + output * self.output_price) / 1e6
        tokens = self.prompt_tokens + self.output_tokens + prompt + output
        if self.max_requests is not None and self.requests + 1 > self.max_requests:
            return f"the cap of {self.max_requests} requests is reached"
        if self.max_tokens is not None and tokens > self.max_tokens:
            return f"the next request may exceed the cap of {self.max_tokens} tokens"
        if self.max_cost is not None and cost > self.max_cost:
            return f"the next request may exceed the cap of {self.max_cost:g}"
        self.requests += 1
        self.prompt_tokens += prompt
        self.output_tokens += output
        return None

    def settle(self, prompt: int, output: int, reply: ChatReply) -> None:
        """Replace a reservation by what was used, where the reply tells."""
        used = 0 if reply.text is None else output
        self.prompt_tokens += (reply.prompt_tokens if reply.prompt_tokens is not None else
                               0 if reply.text is None else prompt) - prompt  # fmt: skip
        given = reply.output_tokens if reply.output_tokens is not None else used
        self.output_tokens += given - output


class ChatClient(Protocol):
    """Answers requests, many at once."""

    name: str
    context_length: int
    concurrency: int
    """Requests it sends at a time, in the order in which they were asked."""
    budget: Budget
    failures: Counter[str]

    def count(self, text: str) -> int:
        """Tokens of a text: exact, or a cautious estimate."""
        ...

    async def ask(self, request: ChatRequest) -> ChatReply:
        """One reply; never raises for a request that fails."""
        ...

    async def close(self) -> None:
        """Release connections. Idempotent."""
        ...


@dataclass(slots=True)
class HttpChat:
    """An OpenAI-compatible `/chat/completions` endpoint.

    Attributes:
        base_url: Up to and without `/chat/completions`.
        name: The model to ask for.
        context_length: Its context, tokens.
        api_key: Sent as a bearer token; None sends none.
        timeout_s: For a whole reply.
        attempts: Requests sent at most for one reply.
        backoff_s: First wait before asking again; doubles; `Retry-After` is obeyed.
        concurrency: Requests in flight.
        budget: Caps.
    """

    base_url: str
    name: str
    context_length: int = 32_768
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    concurrency: int = 8
    budget: Budget = field(default_factory=Budget)
    failures: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    _http: JsonPost | None = field(default=None, repr=False)
    _gate: asyncio.Semaphore | None = field(default=None, repr=False)

    def count(self, text: str) -> int:
        """A cautious estimate: a token a 3 bytes of UTF-8."""
        return len(text.encode("utf-8", "replace")) // 3 + 1

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See `ChatClient.ask`."""
        prompt = sum(self.count(text) + 8 for _, text in request.messages)
        if why := self.budget.reserve(prompt, request.max_tokens):
            return no_reply(self.failures, "budget", why, attempts=0)
        self._gate = self._gate or asyncio.Semaphore(self.concurrency)
        reply = ChatReply(None)
        try:
            async with self._gate:
                began = time.monotonic()
                reply = await self._asked(request)
                reply = replace(reply, seconds=time.monotonic() - began)
        finally:
            self.budget.settle(prompt, request.max_tokens, reply)
        return reply

    async def close(self) -> None:
        """See `ChatClient.close`."""
        if self._http is not None:
            await self._http.close()
        self._http = self._gate = None

    async def _asked(self, request: ChatRequest) -> ChatReply:
        body = {
            "model": self.name,
            "messages": [{"role": r, "content": t} for r, t in request.messages],
            "temperature": request.temperature,
            "max_tokens": request.max_tokens,
            "seed": request.seed,
        }
        if request.json_schema:
            shape = {"name": "reply", "strict": True, "schema": json.loads(request.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        self._http = self._http or JsonPost(
            f"{self.base_url.rstrip('/')}/chat/completions", self.api_key, self.timeout_s,
            self.attempts, self.backoff_s, self.concurrency, retried=self.retried,
        )  # fmt: skip
        try:
            content, attempts = await self._http.post(body)
        except EndpointError as e:
            return no_reply(self.failures, e.kind, e.why, attempts=e.attempts)
        try:
            return _reply(content, attempts)
        except EndpointError as e:
            return no_reply(self.failures, e.kind, e.why, attempts=attempts)


def _reply(content: bytes, attempts: int) -> ChatReply:
    try:
        data = decode(content)
        choice = data["choices"][0]
        text = choice["message"]["content"]
    except OutsideError as e:
        raise EndpointError("malformed", f"not a completion: {e}") from None
    except (LookupError, TypeError):
        raise EndpointError("malformed", "not a completion") from None
    if text is None:
        text = ""
    if not isinstance(text, str):
        raise EndpointError("malformed", "the completion has no text")
    usage = data.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    reason = choice.get("finish_reason")
    counts = [
        n if isinstance(n := usage.get(k), int) and 0 <= n < 1 << 40 else None
        for k in ("prompt_tokens", "completion_tokens")
    ]
    reason = reason if isinstance(reason, str) else None
    return ChatReply(text, reason, counts[0], counts[1], attempts=attempts)


def no_reply(failures: Counter[str], kind: str, why: str, *, attempts: int = 1) -> ChatReply:
    """Count a failure and say it."""
    failures[kind] += 1
    return ChatReply(None, error=f"{kind}: {why}", attempts=attempts)
