"""A chat endpoint as an engine: requests as the API has them, and whatever else it answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.judge_server import Request, judge_server
from tracelab.core.errors import ConfigError, ModelLoadError
from tracelab.core.item import Item, Observation, Sampling
from tracelab.core.trace import Trace, Turn
from tracelab.engines.chat.request import as_sent, read, spelled
from tracelab.engines.chat.tokens import RequestTokenizer, request_in
from tracelab.engines.http import Pace
from tracelab.environments.action import Action
from tracelab.run.config import parse_config
from tracelab.run.pool import EndpointPool
from tracelab.run.wiring import wire
from tracelab.studies.chat import Chat

TOKENS = RequestTokenizer()
TOOL = {"type": "function", "function": {"name": "get", "parameters": {}}}


def call(name: str, arguments: Any, id: str | None = None) -> dict[str, Any]:
    given = {} if id is None else {"id": id}
    return {**given, "type": "function", "function": {"name": name, "arguments": arguments}}


def wired(url: str, **server: Any) -> Any:
    engine = {
        "kind": "chat",
        "server": {"endpoint": url, "backoff_s": 0.0, "attempts": 2, **server},
    }
    return wire(parse_config({"name": "t", "source": "x", "model": "m", "engine": engine}, "t"))


def ask(
    server: Any, *, prefix: tuple[int, ...] | None = None, n: int = 1, max_tokens: int = 50,
    **options: Any,
) -> list[Observation]:  # fmt: skip
    found = wired(server.url, **options)
    ids = TOKENS.render([Turn("user", "q")], "chat") if prefix is None else prefix
    pool = EndpointPool(found.spec)
    pool.submit([Item(found.spec.model, ids, Sampling(max_tokens=max_tokens), replicates=n)])
    out: list[Observation] = []
    while pool.owed:
        out += pool.ready(60)
    pool.close()
    return sorted(out, key=lambda o: o.replicate)


def says(message: dict[str, Any], finish: Any = "stop", **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    usage = {"prompt_tokens": 11, "completion_tokens": 5}
    return json.dumps({"choices": [choice], "usage": usage, **more}).encode()


def cut(r: Request) -> None:
    r.send_response(200)
    r.send_header("Content-Length", "1000")
    r.end_headers()
    r.wfile.write(b'{"choices": [')
    r.close_connection = True


WHOLE = {"content": "a"}
ODD: dict[str, tuple[Callable[[Request], Any], str]] = {
    "429": (lambda r: r.send(b"no", 429, Retry_After="0"), "rate_limited: 429"),
    "500": (lambda r: r.send(b"no", 500), "server_error: 500"),
    "400": (lambda r: r.send(b"no", 400), "refused: 400"),
    "too long": (lambda r: r.send(b"maximum context length is 5", 400), "overlong: 400"),
    "slow": (lambda r: r.released.wait(30), "timeout: "),
    "cut off": (cut, "connection: "),
    "no JSON": (lambda r: r.send(b"<html>"), "malformed: not a completion"),
    "enormous": (lambda r: r.send(b"x" * (5 << 20)), "malformed: more than 4 MiB"),
    "deep": (lambda r: r.send(b"[" * 99_999), "malformed: "),
    "an error, 200": (lambda r: r.send(b'{"error": {"message": "busy"}}'), "refused: busy"),
    "twice": (lambda r: r.send(json.dumps({"choices": 2 * json.loads(says(WHOLE))["choices"]})
                               .encode()), "malformed: 2 choices"),
    "no choices": (lambda r: r.send(b'{"choices": []}'), "malformed: "),
    "no message": (lambda r: r.send(b'{"choices": [{"finish_reason": "stop"}]}'), "malformed: "),
    "no content": (lambda r: r.send(says({})), "malformed: the message has neither"),
    "no finish": (lambda r: r.send(says(WHOLE, None)), "malformed: a choice has the finish_reason"),
    "no name": (lambda r: r.send(says({"tool_calls": [{"function": {}}]})), "malformed: a tool"),
    "an image": (lambda r: r.send(says({"content": [{"type": "image"}]})), "malformed: "),
    "a number": (lambda r: r.send(says({"content": 7})), "malformed: "),
    "refusal": (lambda r: r.send(says({"content": None, "refusal": "I will not."})),
                "declined: I will not."),
    "filter": (lambda r: r.send(says({"content": "a"}, "content_filter")), "filtered: "),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_whatever_comes_is_an_observation_with_its_reason(name: str) -> None:
    respond, why = ODD[name]
    with judge_server(respond) as server:
        [o] = ask(server, timeout_s=0.5 if name == "slow" else 60.0)
    assert o.error is not None and o.error.startswith(why)
    assert (o.finish_reason, o.text, o.token_ids) == ("error", "", ())
    said = json.loads(o.endpoint)
    again = name in ("429", "500", "slow", "cut off")
    assert said["requests"] == len(server.seen) == (2 if again else 1)
    charged = {"no content", "no finish", "no name", "an image", "a number", "refusal", "filter"}
    if name in charged:  # what is paid for is said, whatever came of it
        assert (said["prompt_tokens"], said["output_tokens"]) == (11, 5)


def test_a_message_with_calls_and_reasoning() -> None:
    message = {
        "content": None, "reasoning_content": "hm",
        "tool_calls": [call("get", '{"b": 1, "a": "</tool_call>"}', "c1"), call("get", "{", "c2")],
    }  # fmt: skip
    with judge_server(lambda r: r.send(says(message, "tool_calls", model="m-1"))) as server:
        [o] = ask(server)
    read_back = Action(o.text)
    assert [(c.name, c.arguments) for c in read_back.calls] == [
        ("get", {"a": "</tool_call>", "b": 1}), ("get", "{"),
    ]  # fmt: skip
    assert o.error is None and o.text == TOKENS.decode(o.token_ids)
    said = json.loads(o.endpoint)
    assert (said["reasoning"], said["model"], o.took) == ("hm", "m-1", (11, 5))
    same = [call("get", {"a": "</tool_call>", "b": 1}), call("get", "{", "other")]
    assert spelled({"content": " ", "tool_calls": same}) == o.text, (
        "ids and spelling are no content"
    )


def test_several_choices_are_one_request_and_one_bill() -> None:
    def answer(r: Request) -> None:
        choices = json.loads(says(WHOLE))["choices"]
        many = [{**choices[0], "index": k, "message": {"content": f"a{k}"}} for k in (1, 0)]
        r.send(json.dumps({"choices": many, "usage": {"prompt_tokens": 9, "completion_tokens": 4}})
               .encode())  # fmt: skip

    with judge_server(answer) as server:
        found = ask(server, n=3, choices=3)
    assert [o.text for o in found[:2]] == ["a0", "a1"]
    assert found[2].error is not None and found[2].error.startswith("missing: 2 of 3 choices")
    assert len(server.seen) == 1 and server.seen[0][2]["n"] == 3
    assert [o.took for o in found] == [(9, 4), (0, 0), (0, 0)]


def test_the_request_is_the_log_in_the_form_of_the_api() -> None:
    chat = [
        {"role": "system", "content": "s"}, {"role": "user", "content": "é\n{}"},
        {"role": "assistant", "content": "", "tool_calls": [call("get", {"x": 1}, "k")],
         "reasoning_content": "hm"},
        {"role": "tool", "content": "r", "tool_call_id": "k"},
        # An environment has put these two down: calls in the text, and no ids.
        {"role": "assistant",
         "content": spelled(
             {"content": "w", "tool_calls": [call("get", {}), call("get", {"y": 2})]})},
        {"role": "tool", "name": "get", "content": "r1"}, {"role": "tool", "content": "r2"},
    ]  # fmt: skip
    prompt = Chat(TOKENS).prompt(chat, [TOOL])
    with judge_server(lambda r: r.send(says(WHOLE))) as server:
        ask(server, prefix=prompt, rename={"max_tokens": "max_completion_tokens", "top_p": ""},
            extra={"reasoning_effort": "low"})  # fmt: skip
    body = server.seen[0][2]
    assert (body["tools"], body["max_completion_tokens"], body["reasoning_effort"]) == (
        [TOOL], 50, "low",
    )  # fmt: skip
    assert not {"max_tokens", "top_p", "n"} & body.keys() and 0 <= body["seed"] < 1 << 31
    m = body["messages"]
    assert m[:2] == chat[:2]
    assert m[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [call("get", '{"x": 1}', "k")],
    }
    assert m[4]["content"] == "w" and [c["function"]["arguments"] for c in m[4]["tool_calls"]] == [
        "{}", '{"y": 2}',
    ]  # fmt: skip
    assert [c["id"] for c in m[4]["tool_calls"]] == [x["tool_call_id"] for x in m[5:]]
    assert as_sent(chat, [TOOL], "reasoning")[2]["reasoning"] == "hm"
    assert as_sent(chat, [], None)[4]["content"] == chat[4]["content"], "no tools: it is its text"
    assert read("<tool_call>lookup Kale</tool_call>") is None


@pytest.mark.parametrize(
    "text", ["", "a", " \n\n  x", "naïve \U0001f600\u3000日本 ok", "\t\x7f\x00z" * 3]
)
def test_tokens_spell_every_text_and_words_begin_new_ones(text: str) -> None:
    ids, starts = TOKENS.place_response(text, None)
    assert TOKENS.decode(ids) == text and len(starts) == len(ids)
    assert all(0 <= i < TOKENS.vocabulary < 1 << 31 for i in ids)
    for at in [k for k in range(1, len(text)) if text[k].isascii() and text[k - 1] not in " \n\t"
               and text[k] == " "]:  # fmt: skip
        assert at in starts


def test_a_response_goes_on_where_the_server_says_how() -> None:
    said = "<think>\nOne. Two.\n</think>\n\nThree."
    trace = Trace((Turn("user", "q"), Turn("assistant", said)), "t")
    tokens = TOKENS.tokenize(trace)
    at = tokens.token_at(said.index(" Two"))
    prefix = tokens.prompt_ids + tokens.response_ids[:at]
    assert request_in(prefix) is not None
    for way, flags in (("vllm", {"continue_final_message": True}), ("prefix", {})):
        with judge_server(lambda r: r.send(says({"content": " Two."}))) as server:
            [o] = ask(server, prefix=prefix, continuation=way)
        last = server.seen[0][2]["messages"][-1]
        assert last == {"role": "assistant", "content": "<think>\nOne.",
                        **({"prefix": True} if way == "prefix" else {})}  # fmt: skip
        assert flags.items() <= server.seen[0][2].items() and o.text == " Two."
    # From the start there is nothing to continue, and the template opens the reasoning.
    with judge_server(lambda r: r.send(says({"content": "<think>\nOne."}))) as server:
        [o] = ask(server, prefix=tokens.prompt_ids)
    assert o.text == "One." and len(server.seen[0][2]["messages"]) == 1
    with judge_server(lambda r: r.send(says(WHOLE))) as server:
        [o] = ask(server, prefix=prefix)
    assert (o.error or "").startswith("unsupported: ") and server.seen == []


def test_a_pace_is_kept_and_a_word_of_the_server_obeyed() -> None:
    now, waited = [0.0], list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        now[0] += seconds

    pace = Pace(60, 6000, clock=lambda: now[0], sleep=sleep)
    for coroutine in (pace.turn(10), pace.turn(300), pace.turn(10)):
        with pytest.raises(StopIteration):
            coroutine.send(None)
    pace.hold(20)
    with pytest.raises(StopIteration):
        pace.turn(1).send(None)
    assert waited == [1.0, 3.0, 20.0]


def test_what_is_missing_is_said() -> None:
    config = {"name": "t", "source": "x", "model": "m", "engine": {"kind": "chat"}}
    with pytest.raises(ConfigError, match="needs engine.server.endpoint"):
        wire(parse_config(config, "t"))
    other = {"kind": "openai", "server": {"endpoint": "http://x/v1", "max_cost": 1.0}}
    with pytest.raises(ConfigError, match=r'engine\.server\.max_cost is for engine.kind = "chat"'):
        wire(parse_config({**config, "model": "testbed", "engine": other}, "t"))


@pytest.mark.parametrize(
    ("status", "says"), [(401, "refuses the key"), (404, "has no model 'm'"), (0, "be reached")]
)
def test_where_nobody_can_be_asked_nothing_more_is_asked(status: int, says: str) -> None:
    with judge_server(lambda r: r.send(b"no", status)) as server:
        found = wired(server.url if status else "http://127.0.0.1:9/v1", concurrency=1)
        pool = EndpointPool(found.spec)
        ids = TOKENS.render([Turn("user", "q")], "chat")
        pool.submit([Item(found.spec.model, ids, Sampling(max_tokens=5), seed=s) for s in range(3)])
        with pytest.raises(ModelLoadError, match=says):
            while pool.owed:
                pool.ready(60)
        pool.close()
