"""JSON to an endpoint and back: bounded, timed, asked again when that may help.

What cannot be had is an `HttpError` of one of these kinds:

    rate_limited   429, to the last attempt          server_error   408, 5xx, to the last attempt
    timeout        nothing whole within `timeout_s`  connection     no connection, or it broke
    refused        any other status; not retried     malformed      not what was asked; no retry
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx

_MOST_BYTES = 4 << 20
_LONGEST_WAIT = 60.0
_AGAIN = frozenset({"rate_limited", "server_error", "timeout", "connection"})


class HttpError(Exception):
    """Why there is no reply: a kind and a sentence."""

    def __init__(self, kind: str, why: str, retry_after: float | None = None) -> None:
        super().__init__(f"{kind}: {why}")
        self.kind, self.why, self.retry_after = kind, why, retry_after
        self.attempts = 1


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
    """

    url: str
    api_key: str | None = field(default=None, repr=False)
    timeout_s: float = 120.0
    attempts: int = 5
    backoff_s: float = 1.0
    concurrency: int = 8
    most_bytes: int = _MOST_BYTES
    retried: Counter[str] = field(default_factory=Counter)
    _http: httpx.AsyncClient | None = field(default=None, repr=False)

    async def close(self) -> None:
        """Release connections. Idempotent."""
        if self._http is not None:
            await self._http.aclose()
        self._http = None

    async def post(self, body: dict[str, Any]) -> tuple[bytes, int]:
        """The body of a reply of status 200, and the requests that it took.

        Raises:
            HttpError: There is none.
        """
        from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
        from tenacity.wait import wait_exponential, wait_random

        doubling = wait_exponential(multiplier=self.backoff_s, max=_LONGEST_WAIT)
        backoff = doubling + wait_random(0, self.backoff_s)

        def wait(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome is not None else None
            asked = error.retry_after if isinstance(error, HttpError) else None
            return max(backoff(state), min(max(asked or 0.0, 0.0), _LONGEST_WAIT))

        attempts = 0
        try:
            async for attempt in AsyncRetrying(
                retry=retry_if_exception(lambda e: isinstance(e, HttpError) and e.kind in _AGAIN),
                wait=wait,
                stop=stop_after_attempt(self.attempts),
                reraise=True,
            ):
                with attempt:
                    attempts += 1
                    try:
                        return await self._once(body), attempts
                    except HttpError as e:
                        e.attempts = attempts
                        if e.kind in _AGAIN and attempts < self.attempts:
                            self.retried[e.kind] += 1
                        raise
        except HttpError as e:
            raise e from None
        raise AssertionError("tenacity ends by returning or raising")

    async def _once(self, body: dict[str, Any]) -> bytes:
        import httpx

        late = f"no whole reply within {self.timeout_s:g} s"
        try:
            async with asyncio.timeout(self.timeout_s):  # httpx's own is for each part
                status, headers, content = await self._post(body)
        except (TimeoutError, httpx.TimeoutException):
            raise HttpError("timeout", late) from None
        except (httpx.TransportError, httpx.DecodingError, httpx.StreamError) as e:
            raise HttpError("connection", type(e).__name__) from None
        except (httpx.InvalidURL, httpx.RequestError, UnicodeError) as e:
            raise HttpError("refused", type(e).__name__) from None
        said = " ".join(content[:300].decode("utf-8", "replace").split())
        if status == 429 or status == 408 or status >= 500:
            kind = "rate_limited" if status == 429 else "server_error"
            raise HttpError(kind, f"{status} {said}", retry_after(headers.get("retry-after")))
        if status != 200:
            raise HttpError("refused", f"{status} {said}")
        return content

    async def _post(self, body: dict[str, Any]) -> tuple[int, Any, bytes]:
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
        content = b""
        async with self._http.stream("POST", self.url, json=body) as reply:
            async for part in reply.aiter_bytes():
                content += part
                if len(content) > self.most_bytes:
                    raise HttpError("malformed", f"more than {self.most_bytes >> 20} MiB")
        return reply.status_code, reply.headers, content


def retry_after(header: str | None) -> float | None:
    """Seconds of a Retry-After header, a number or a date; None for anything else."""
    try:
        text = (header or "").strip()[:64]
        return float(int(text)) if text.isdigit() else _until(text)
    except (ValueError, TypeError, OverflowError):
        return None


def _until(date: str) -> float:
    return parsedate_to_datetime(date).timestamp() - time.time()
