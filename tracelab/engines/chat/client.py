"""Chat at an endpoint: messages in, replies out, within caps; and what judges ask of it.

`HttpChat.send` is the one way to an endpoint's `/chat/completions`, for judges (`ask`) and for the
engine. A client never raises for one request: what cannot be had is a reply with `error`,
`kind: sentence`.

    budget         a cap is reached; none is sent          overlong   the prompt exceeds the context
    engine         the local engine failed                 and the kinds of `tracelab.engines.http`
                                                           and of `tracelab.engines.chat.reading`

The kinds are those of `tracelab.grading.judge`, which grades outcomes with the same API.
A local engine is asked through `tracelab.run.answering.LocalChat`.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from tracelab.core.seam import EndpointError
from tracelab.core.trace import Role
from tracelab.engines.chat.reading import Usage, read_reply, usage_of
from tracelab.engines.http import JsonPost, Pace


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


@dataclass(frozen=True, slots=True)
class Reservation:
    """Tokens that a request in flight may need: its prompt as estimated, and as reserved."""

    estimate: int
    prompt: int
    output: int


@dataclass(frozen=True, slots=True)
class SentRequest:
    """What came of one request to an endpoint.

    Attributes:
        content: The reply of status 200; None where there is none.
        error: Why there is none.
        attempts: Requests that were sent.
        seconds: What they took, waits between them included.
        usage: Tokens, as far as the reply tells.
    """

    content: bytes | None
    error: EndpointError | None
    attempts: int
    seconds: float = 0.0
    usage: Usage = field(default_factory=Usage)


@dataclass(slots=True)
class Budget:
    """Caps on what a client may spend; None is no cap. Tokens are prompt and reply together.

    Every request that is sent counts, also one that is asked again; tokens count where they are
    charged for: of what failed, only those that the reply tells.

    What is in flight is reserved at its most (the estimated prompt and `max_tokens`), so a cap is
    kept even by concurrent requests. Prompts that turn out longer than was estimated make later
    estimates as much longer.
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
    reserved: int = 0
    """Requests that were let through, and have not ended."""
    _longer: float = 1.0

    @property
    def cost(self) -> float:
        """Spent, or reserved, so far."""
        spent = self.prompt_tokens * self.input_price + self.output_tokens * self.output_price
        return spent / 1e6

    def reserve(self, prompt: int, output: int) -> Reservation | str:
        """Take what a request may need; say which cap forbids it instead."""
        held = Reservation(prompt, math.ceil(prompt * self._longer), output)
        cost = self.cost + (held.prompt * self.input_price + output * self.output_price) / 1e6
        tokens = self.prompt_tokens + self.output_tokens + held.prompt + output
        if self.full:
            return f"the cap of {self.max_requests} requests is reached"
        if self.max_tokens is not None and tokens > self.max_tokens:
            return f"the next request may exceed the cap of {self.max_tokens} tokens"
        if self.max_cost is not None and cost > self.max_cost:
            return f"the next request may exceed the cap of {self.max_cost:g}"
        self.requests += 1
        self.reserved += 1
        self.prompt_tokens += held.prompt
        self.output_tokens += output
        return held

    @property
    def full(self) -> bool:
        """Whether no request may be sent any more, however small."""
        return self.max_requests is not None and self.requests >= self.max_requests

    def again(self) -> bool:
        """Take one request more for what failed; False where the cap forbids it."""
        if self.full:
            return False
        self.requests += 1
        return True

    def settle(self, held: Reservation, read: int, wrote: int) -> None:
        """Replace a reservation by the tokens that were read and written."""
        self.reserved -= 1
        self.prompt_tokens += read - held.prompt
        self.output_tokens += wrote - held.output
        self._longer = max(self._longer, read / max(held.estimate, 1))


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
        failures: Requests that came to nothing, by kind.
        retried: Requests that were asked again, by kind.
        pace: When requests may go; None as soon as others have ended.
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
    pace: Pace | None = None
    _http: JsonPost | None = field(default=None, repr=False)
    _gate: asyncio.Semaphore | None = field(default=None, repr=False)
    _settled: asyncio.Condition | None = field(default=None, repr=False)

    def count(self, text: str) -> int:
        """A cautious estimate: a token a 3 bytes of UTF-8."""
        return len(text.encode("utf-8", "replace")) // 3 + 1

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See `ChatClient.ask`."""
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
        prompt = sum(self.count(text) + 8 for _, text in request.messages)
        sent = await self.send(body, prompt, request.max_tokens)
        read, wrote = sent.usage.prompt_tokens, sent.usage.output_tokens
        reply = ChatReply(None, None, read, wrote, attempts=sent.attempts, seconds=sent.seconds)
        try:
            choice = read_reply(given(sent), 1).choices[0]
            if isinstance(choice, EndpointError):
                raise choice
        except EndpointError as e:
            self.failures[e.kind] += 1
            return replace(reply, error=f"{e.kind}: {e.why}")
        return replace(reply, text=choice.message["content"], finish_reason=choice.finish_reason)

    async def send(self, body: Mapping[str, Any], prompt: int, output: int) -> SentRequest:
        """Send a request when its turn comes, within the caps; never raises for one that fails.

        What a cap forbids while others are in flight waits for what they turn out to need.

        Args:
            body: The request.
            prompt: Tokens that it is estimated to read.
            output: Tokens that it writes at most.
        """
        self._gate = self._gate or asyncio.Semaphore(self.concurrency)
        self._settled = self._settled or asyncio.Condition()
        async with self._gate:
            while isinstance(held := self.budget.reserve(prompt, output), str):
                if self.budget.full or not self.budget.reserved:
                    return SentRequest(None, EndpointError("budget", held), 0)
                async with self._settled:
                    await self._settled.wait()
            began, usage, content = time.monotonic(), Usage(0, 0), None
            error: EndpointError | None = None
            try:
                content, attempts = await self._post().post(body, held.prompt + output)
                usage = usage_of(content)
            except EndpointError as e:
                error, attempts = e, e.attempts
            finally:
                read, wrote = usage.prompt_tokens, usage.output_tokens
                self.budget.settle(
                    held,
                    held.estimate if read is None else read,
                    output if wrote is None else wrote,
                )
                async with self._settled:
                    self._settled.notify_all()
            return SentRequest(content, error, attempts, time.monotonic() - began, usage)

    async def close(self) -> None:
        """See `ChatClient.close`."""
        if self._http is not None:
            await self._http.close()
        self._http = self._gate = self._settled = None

    def _post(self) -> JsonPost:
        if self._http is None:
            self._http = JsonPost(
                f"{self.base_url.rstrip('/')}/chat/completions", self.api_key, self.timeout_s,
                self.attempts, self.backoff_s, self.concurrency, retried=self.retried,
                pace=self.pace, again=self.budget.again,
            )  # fmt: skip
        return self._http


def given(sent: SentRequest) -> bytes:
    """The reply that came.

    Raises:
        EndpointError: None did.
    """
    if sent.error is not None:
        raise sent.error
    assert sent.content is not None
    return sent.content
