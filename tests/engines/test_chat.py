"""Chat clients: whatever an endpoint does is a counted reply; local engines answer in batches."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.judge_server import Request, judge_server
from tracelab.core.seam import EndpointError
from tracelab.engines.chat.client import Budget, ChatReply, ChatRequest, HttpChat
from tracelab.engines.http import BlockingPost, retry_after

ASK = ChatRequest((("system", "s"), ("user", "u")), max_tokens=20)


def ask(server: Any, requests: int = 1, **settings: Any) -> tuple[list[ChatReply], HttpChat]:
    client = HttpChat(server.url, "m", **{"backoff_s": 0.0, "attempts": 3, **settings})

    async def all_of_them() -> list[ChatReply]:
        try:
            return await asyncio.gather(*(client.ask(ASK) for _ in range(requests)))
        finally:
            await client.close()

    return asyncio.run(all_of_them()), client


def test_a_reply() -> None:
    with judge_server(lambda r: r.say("hi", prompt_tokens=7, completion_tokens=2)) as server:
        (reply,), client = ask(server, api_key="k3y")
    assert reply == ChatReply("hi", "stop", 7, 2)
    ((path, authorization, body),) = server.seen
    assert (path, authorization) == ("/v1/chat/completions", "Bearer k3y")
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
    ]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("m", 0.0, 20)
    assert (client.budget.prompt_tokens, client.budget.output_tokens) == (7, 2)
    assert "k3y" not in repr(client)


BAD = {
    "not_json": lambda r: r.send(b"<html>"),
    "no_choices": lambda r: r.send(b'{"choices": []}'),
    "a_list": lambda r: r.send(b"[1]"),
    "text_is_a_number": lambda r: r.send(b'{"choices": [{"message": {"content": 7}}]}'),
    "deep": lambda r: r.send(b"[" * 100_000),
    "endless": lambda r: r.send(b"x" * (5 << 20)),
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_replies_are_not_asked_for_again(name: str) -> None:
    with judge_server(BAD[name]) as server:
        (reply,), client = ask(server)
    assert reply.text is None and reply.error is not None
    assert reply.error.startswith("malformed: ")
    assert len(server.seen) == 1 and client.failures == {"malformed": 1}


def cut(r: Request) -> None:
    r.send_response(200)
    r.send_header("Content-Length", "1000")
    r.end_headers()
    r.wfile.write(b'{"choices": [')
    r.close_connection = True


@pytest.mark.parametrize(
    ("respond", "kind"),
    [
        (lambda r: r.send(b"no", 429, Retry_After="0"), "rate_limited"),
        (lambda r: r.send(b"no", 503), "server_error"),
        (lambda r: r.send(b"no", 408), "server_error"),
        (cut, "connection"),
        (lambda r: r.released.wait(30), "timeout"),
    ],
)
def test_what_may_pass_is_asked_again(respond: Callable[[Request], Any], kind: str) -> None:
    late = kind == "timeout"
    with judge_server(respond) as server:
        (reply,), client = ask(server, timeout_s=0.5 if late else 60.0)
    assert reply.error is not None and reply.error.startswith(f"{kind}: ")
    assert (reply.attempts, client.failures[kind], client.retried[kind]) == (3, 1, 2)

    def at_last(r: Request) -> Any:
        return respond(r) if r.number < failing else r.say("at last")

    # The reply that comes has the same limit as those that do not: long, and waited for once.
    failing = 1 if late else 2
    with judge_server(at_last) as server:
        (reply,), client = ask(server, timeout_s=4.0 if late else 60.0)
    assert (reply.text, reply.attempts) == ("at last", failing + 1)
    assert not client.failures and client.retried[kind] == failing


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_refusal_is_final(status: int) -> None:
    with judge_server(lambda r: r.send(b"\x1b[2J no", status, Location="http://x")) as server:
        (reply,), client = ask(server)
    assert reply.error is not None and reply.error.startswith(f"refused: {status}")
    assert len(server.seen) == 1 and client.failures == {"refused": 1}


def test_nobody_listens() -> None:
    with judge_server(lambda r: r.say("hi")) as server:
        url = server.url
    client = HttpChat(url, "m", attempts=2, backoff_s=0.0)
    assert asyncio.run(client.ask(ASK)).error == "connection: ConnectError"


def test_concurrency_is_bounded() -> None:
    with judge_server(lambda r: r.say(str(r.number))) as server:
        replies, _ = ask(server, 30, concurrency=3)
    assert sorted(int(r.text or -1) for r in replies) == list(range(30))
    assert server.busiest <= 3


@pytest.mark.parametrize(
    ("budget", "sent"),
    [
        (Budget(max_requests=4), 4),
        (Budget(max_tokens=100), 1),  # 80 are used, and the next one may need 38
        (Budget(max_cost=0.0001, input_price=0.0, output_price=1.0), 5),
        (Budget(max_requests=0), 0),
        (Budget(), 10),
    ],
)
def test_a_cap_holds_for_concurrent_requests(budget: Budget, sent: int) -> None:
    with judge_server(lambda r: r.say("x", prompt_tokens=60, completion_tokens=20)) as server:
        replies, client = ask(server, 10, budget=budget, concurrency=1)
    assert len(server.seen) == sent
    assert client.failures["budget"] == 10 - sent
    assert sum(r.attempts for r in replies) == sent
    assert budget.output_tokens == 20 * sent and budget.prompt_tokens == 60 * sent


def test_retry_after() -> None:
    assert retry_after("3") == 3.0
    assert retry_after("Thu, 01 Jan 1970 00:00:00 GMT") < 0  # type: ignore[operator]
    assert [retry_after(h) for h in (None, "", "soon", "9" * 400, "-1", "١")][:3] == [None] * 3


def test_threads_share_one_client_and_closing_ends_their_waiting() -> None:
    together = threading.Barrier(3, timeout=60)

    def answer(r: Request) -> None:
        together.wait()
        r.say("hi")

    with judge_server(answer) as server, ThreadPoolExecutor(3) as threads:
        post = BlockingPost(f"{server.url}/chat/completions", concurrency=3)
        replies = list(threads.map(post.post, [{"n": i} for i in range(3)]))
        assert [(b"hi" in r, sent) for r, sent in replies] == [(True, 1)] * 3
        late = threads.submit(post.post, {"n": 3})  # the barrier wants two more
        while together.n_waiting == 0:
            time.sleep(0.001)
        post.close()
        with pytest.raises(EndpointError, match="connection: closed while waiting"):
            late.result(60)
        together.abort()
