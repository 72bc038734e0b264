"""JSON to an endpoint and back: bounded, timed, asked again when that may help.

`JsonPost` is for coroutines, `BlockingPost` the same for threads. What cannot be had is an
`EndpointError` of one of these kinds:

    rate_limited   429, to the last attempt          server_error   408, 5xx, to the last attempt
    timeout        nothing whole within `timeout_s`  connection     no connection, or it broke
    refused        any other status; not retried     malformed      not what was asked; no retry
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from tracelab.core.outside import OutsideError, decode
from tracelab.core.seam import EndpointError
from tracelab.core.secrets import any_known, hidden_bytes, hidden_json

if TYPE_CHECKING:
    import httpx

MOST_BYTES = 4 << 20
"""Longest reply."""
_LONGEST_WAIT = 60.0
_AGAIN = frozenset({"rate_limited", "server_error", "timeout", "connection"})


@dataclass(slots=True)
class Pace:
    """Lets requests go one after the other, evenly spread over each minute.

    Attributes:
        requests_per_minute: None is no limit.
        tokens_per_minute: Of prompts and replies, as far as they are known beforehand.
        clock: Seconds.
        sleep: Waits so many of them.
    """

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep)
    _next: float = 0.0

    async def turn(self, tokens: int) -> None:
        """Wait until a request of about so many tokens may go."""
        now = self.clock()
        start = max(now, self._next)
        spans = (1.0, self.requests_per_minute), (float(tokens), self.tokens_per_minute)
        self._next = start + max((60.0 * n / limit for n, limit in spans if limit), default=0.0)
        if start > now:
            await self.sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Let none go for so long: the endpoint said so."""
        self._next = max(self._next, self.clock() + seconds)


@dataclass(slots=True)
class JsonPost:
    """One URL that takes and gives JSON.

    Attributes:
        url: Where to post.
        api_key: Sent as a bearer token; None sends none.
        timeout_s: For a whole reply.
        attempts: Requests sent at most for one reply.
        backoff_s: First wait before asking again; doubles; `Retry-After` is obeyed.
        concurrency: Connections; who calls bounds the requests.
        most_bytes: A longer reply is `malformed`.
        retried: Requests that were asked again, by kind.
        pace: When each request may go; None at once.
        again: Whether a request may be sent once more; None always.
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    concurrency: int = 8
    most_bytes: int = MOST_BYTES
    retried: Counter[str] = field(default_factory=Counter)
    pace: Pace | None = None
    again: Callable[[], bool] | None = None
    _http: httpx.AsyncClient | None = field(default=None, repr=False)

    async def close(self) -> None:
        """Release connections. Idempotent."""
        if self._http is not None:
            await self._http.aclose()
        self._http = None

    async def post(self, body: Mapping[str, Any], tokens: int = 0) -> tuple[bytes, int]:
        """The body of a reply of status 200, and the requests that it took.

        Args:
            body: What is sent.
            tokens: About how many it reads and writes, for the pace.

        Raises:
            EndpointError: There is none.
        """
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
        from tenacity.wait import wait_exponential, wait_random

        doubling = wait_exponential(multiplier=self.backoff_s, max=_LONGEST_WAIT)
        backoff = doubling + wait_random(0, self.backoff_s)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.retry_after if isinstance(error, EndpointError) else None
            return max(backoff(state), min(max(asked or 0.0, 0.0), _LONGEST_WAIT))

        attempts = 0
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(self._may_pass),
                wait=wait,
                stop=stop_after_attempt(self.attempts),
                reraise=True,
            ):
                with attempt:
                    attempts += 1
                    try:
                        if self.pace is not None:
                            await self.pace.turn(tokens)
                        return await self._once(body), attempts
                    except EndpointError as e:
                        e.attempts = attempts
                        if e.kind in _AGAIN and attempts < self.attempts:
                            e.final = self.again is not None and not self.again()
                            self.retried[e.kind] += not e.final
                        if self.pace is not None and e.retry_after is not None:
                            self.pace.hold(min(e.retry_after, _LONGEST_WAIT))
                        raise
        except EndpointError as e:
            raise e from None
        raise AssertionError("tenacity ends by returning or raising")

    def _may_pass(self, e: BaseException) -> bool:
        return isinstance(e, EndpointError) and e.kind in _AGAIN and not e.final

    async def _once(self, body: Mapping[str, Any]) -> bytes:
        import httpx

        late = f"no whole reply within {self.timeout_s:g} s"
        try:
            async with asyncio.timeout(self.timeout_s):  # httpx's own is for each part
                status, headers, content = await self._post(body)
        except (TimeoutError, httpx.TimeoutException):
            raise EndpointError("timeout", late) from None
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as e:
            raise EndpointError("connection", type(e).__name__) from None
        except (httpx.InvalidURL, httpx.RequestError, UnicodeError) as e:
            raise EndpointError("refused", type(e).__name__) from None
        said = " ".join(content[:300].decode("utf-8", "replace").split())
        if status == 429 or status == 408 or status >= 500:
            kind = "rate_limited" if status == 429 else "server_error"
            raise EndpointError(kind, f"{status} {said}", retry_after(headers.get("retry-after")))
        if status != 200:
            raise EndpointError("refused", f"{status} {said}")
        return content

    async def _post(self, body: Mapping[str, Any]) -> tuple[int, Any, bytes]:
        import httpx

        if self._http is None:
            headers = {
                "Accept-Encoding": "identity"
            }  # a small reply must not unpack to a large one
            if self.api_key is not None:
                headers["Authorization"] = f"Bearer {self.api_key}"
            self._http = httpx.AsyncClient(
                headers=headers,
                timeout=self.timeout_s,
                limits=httpx.Limits(max_connections=self.concurrency),
            )
        content = bytearray()
        async with self._http.stream("POST", self.url, json=body) as reply:
            async for part in reply.aiter_bytes():
                content += part
                if len(content) > self.most_bytes:
                    raise EndpointError("malformed", f"more than {self.most_bytes >> 20} MiB")
        return reply.status_code, reply.headers, _without_secrets(bytes(content))


def _without_secrets(content: bytes) -> bytes:
    """A reply that does not echo the key it was asked with, also not in JSON's own escapes."""
    content = hidden_bytes(content)
    if b"\\" in content and any_known():
        try:
            found = decode(content)
            if (safe := hidden_json(found)) != found:
                return json.dumps(safe).encode()
        except OutsideError:
            pass  # whoever reads it says what is wrong with it
    return content


class BlockingPost:
    """`JsonPost` for threads: as many may call it as are to be in flight. An `Endpoint`."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        attempts: int = 5,
        backoff_s: float = 1.0,
        concurrency: int = 8,
    ) -> None:
        """Prepare; see `JsonPost`."""
        self.retried: Counter[str] = Counter()
        """See `Endpoint.retried`."""
        self._settings = (url, api_key, timeout_s, attempts, backoff_s, concurrency)
        self._lock = threading.Lock()
        self._session: _Session | None = None

    def post(self, body: Mapping[str, Any]) -> tuple[bytes, int]:
        """See `Endpoint.post`."""
        with self._lock:
            if self._session is None:
                self._session = _Session(JsonPost(*self._settings, retried=self.retried))
            future = self._session.submit(body)
        try:
            return future.result()
        except CancelledError:
            raise EndpointError("connection", "closed while waiting") from None

    def close(self) -> None:
        """See `Endpoint.close`."""
        with self._lock:
            session, self._session = self._session, None
        if session is not None:
            session.close()


class _Session:
    """An event loop in a thread of its own, and the connections that live in it."""

    def __init__(self, json_post: JsonPost) -> None:
        self._json = json_post
        self._waiting: set[Future[tuple[bytes, int]]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="tracelab-http", daemon=True
        )
        self._thread.start()

    def submit(self, body: Mapping[str, Any]) -> Future[tuple[bytes, int]]:
        future = asyncio.run_coroutine_threadsafe(self._json.post(body), self._loop)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)
        return future

    def close(self) -> None:
        for future in list(self._waiting):
            future.cancel()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        here = asyncio.current_task()
        await asyncio.gather(*(asyncio.all_tasks() - {here}), return_exceptions=True)
        await self._json.close()


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None for anything else."""
    try:
        text = (header or "").strip()[:64]
        return float(text) if text.isascii() and text.isdigit() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()
