"""Chat clients: whatever an endpoint does is a counted reply; local engines answer in batches."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tracelab.studies.audit.judging import judge, judge_all

from tests.judge_server import Request, judge_server
from tracelab.core.episode import Episode, Step
from tracelab.core.seam import EndpointError
from tracelab.engines.base import EngineSpec
from tracelab.engines.chat import Budget, ChatReply, ChatRequest, HttpChat
from tracelab.engines.chat_local import EngineChat
from tracelab.engines.http import BlockingPost, retry_after
from tracelab.engines.scripted import ScriptTokenizer
from tracelab.run.pool import LocalPool

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
        (Budget(max_tokens=100), 2),  # 38 each: the estimate of the prompt, and room for the reply
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


def run(n: int = 3) -> Episode:
    steps = tuple(Step(i, "llm", agent="Ann", content=f"text {i}") for i in range(n))
    return Episode(f"e{n}", steps, "x", task="t")


def test_runs_come_back_in_order_and_few_are_held() -> None:
    held: list[int] = []
    done: list[str] = []

    def many() -> Any:
        for i in range(1, 41):
            held.append(i - len(done))
            yield run(i)

    def respond(r: Request) -> None:
        n = json.dumps(r.body).count("[step ")
        r.say(f"Agent: Ann\nStep: {n - 1}")

    async def go(url: str) -> list[int | None]:
        client, steps = HttpChat(url, "m"), []
        async for episode, opinion in judge_all(many(), "all-at-once", client, in_flight=5):
            done.append(episode.name)
            steps.append(opinion.step)
        await client.close()
        return steps

    with judge_server(respond) as server:
        assert asyncio.run(go(server.url)) == list(range(40))
    assert done == [f"e{i}" for i in range(1, 41)]
    assert max(held) <= 5


def local(spec: EngineSpec, tokenizer: Any, **more: Any) -> EngineChat:
    return EngineChat(LocalPool(spec), tokenizer, spec.model, spec.context_length, **more)


@pytest.fixture
def scripted(script_spec: Any, script_tokenizer: ScriptTokenizer) -> EngineChat:
    return local(script_spec(), script_tokenizer)


def test_a_local_engine(scripted: EngineChat) -> None:
    different = [ChatRequest((("user", f"question {i}"),), 50) for i in range(5)]

    async def go() -> list[ChatReply]:
        return await asyncio.gather(*(scripted.ask(r) for r in [*different, different[0]]))

    replies = asyncio.run(go())
    assert all(r.text and r.error is None for r in replies)
    assert replies[0].text == replies[5].text  # the same request, asked once
    assert asyncio.run(scripted.ask(ChatRequest((("user", "again"),), 50))).text  # another loop


def test_a_local_engine_fails_softly(script_spec: Any, script_tokenizer: Any) -> None:
    class Broken:
        def run(self, items: Any) -> Any:
            raise RuntimeError("no more memory")
            yield

    spec = script_spec()
    chat = EngineChat(Broken(), script_tokenizer, spec.model, 4096)  # type: ignore[arg-type]
    reply = asyncio.run(chat.ask(ASK))
    assert reply.error == "engine: RuntimeError: no more memory"
    small = EngineChat(LocalPool(spec), script_tokenizer, spec.model, 1)
    assert asyncio.run(small.ask(ASK)).error == "overlong: 2 tokens, but the context holds 1" or (
        small.failures["overlong"] == 1
    )
    capped = local(spec, script_tokenizer, budget=Budget(max_requests=0))
    assert asyncio.run(capped.ask(ASK)).error == "budget: the cap of 0 requests is reached"


@pytest.mark.parametrize("method", ["all-at-once", "step-by-step", "binary-search", "a2p"])
def test_judging_through_the_scripted_engine(method: str, scripted: EngineChat) -> None:
    opinion = asyncio.run(judge(run(4), method, scripted, reply_tokens=8))
    assert opinion.status in ("unparsed", "overlong"), opinion


@pytest.mark.parametrize("method", ["all-at-once", "step-by-step", "binary-search"])
def test_judging_through_the_transformers_engine(method: str) -> None:
    """The bundled model cannot judge; the path from run to opinion must hold all the same."""
    chat = bundled()
    opinion = asyncio.run(judge(run(2), method, chat, reply_tokens=8))
    assert opinion.status in ("unparsed", "ok"), opinion
    assert opinion.calls >= 1 and opinion.parse_failures
    if method != "step-by-step":  # which begins with logs that fit
        long = asyncio.run(judge(run(200), method, chat, reply_tokens=8))
        assert long.status == "overlong" and long.calls == 0


_CHAT: list[EngineChat] = []


def bundled() -> EngineChat:
    if not _CHAT:
        from tracelab.run.config import parse_config
        from tracelab.run.wiring import wire

        engine = {"kind": "transformers", "dtype": "float32", "device": "cpu"}
        config = {"name": "judge", "source": "testbed", "model": "testbed", "engine": engine}
        wired = wire(parse_config(config, "judge"))
        spec = wired.spec
        _CHAT.append(EngineChat(LocalPool(spec), wired.tokenizer, spec.model, spec.context_length))
    return _CHAT[0]


def test_threads_share_one_client_and_closing_ends_their_waiting() -> None:
    together = threading.Barrier(3, timeout=60)

    def answer(r: Request) -> None:
        together.wait()
        r.say("hi")

    with judge_server(answer) as server, ThreadPoolExecutor(3) as threads:
        post = BlockingPost(f"{server.url}/chat/completions", concurrency=3)
        replies = list(threads.map(post.post, [{"n": i} for i in range(3)]))
        assert [b"hi" in r for r in replies] == [True] * 3
        late = threads.submit(post.post, {"n": 3})  # the barrier wants two more
        while together.n_waiting == 0:
            time.sleep(0.001)
        post.close()
        with pytest.raises(EndpointError, match="connection: closed while waiting"):
            late.result(60)
        together.abort()
