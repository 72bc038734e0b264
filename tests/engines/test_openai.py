"""A completions server as an engine: numbers of the engine behind it, and whatever else comes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.completions_server import Server
from tests.helpers import answers_of, invoke
from tests.judge_server import Request, judge_server
from tracelab.core.errors import ConfigError, ModelLoadError
from tracelab.core.item import Item, Observation, Sampling
from tracelab.core.trace import Turn
from tracelab.engines.registry import build
from tracelab.engines.transformers.engine import TransformersEngine
from tracelab.run.config import parse_config
from tracelab.run.wiring import wire
from tracelab.testbed import problems

CONTEXT = 256


def wired(endpoint: str | None, **server: Any) -> Any:
    kind = "transformers" if endpoint is None else "openai"
    own = {} if endpoint is None else {"endpoint": endpoint, "backoff_s": 0.0, **server}
    config = {
        "name": "t", "source": "testbed", "model": "testbed",
        "engine": {"kind": kind, "dtype": "float32", "device": "cpu", "max_model_len": CONTEXT,
                   "server": own},
    }  # fmt: skip
    return wire(parse_config(config, "t"))


@pytest.fixture(scope="module")
def direct() -> Iterator[TransformersEngine]:
    engine = build(wired(None).spec)
    assert isinstance(engine, TransformersEngine)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def items(direct: TransformersEngine) -> list[Item]:
    tokenizer = wired(None).tokenizer
    drawn = problems(6, seed=5, missing=False, hinted=False)
    prompts = [tokenizer.render([Turn("user", p.prompt)], "chat") for p in drawn]
    greedy = Sampling(temperature=0, max_tokens=40)
    said = answers_of(direct, *(Item(direct.spec.model, p, greedy) for p in prompts))
    return [
        Item(direct.spec.model, p, target_ids=o.token_ids)
        for p, o in zip(prompts, said, strict=True)
    ]


@contextmanager
def serve(
    direct: TransformersEngine, change: Callable[[Any], Any] = lambda reply: reply
) -> Iterator[Any]:
    respond = Server(direct)
    respond.change = change
    with judge_server(respond) as server:
        yield server


def ask(url: str, items: list[Item], **server: Any) -> list[Observation]:
    return answers_of(build(wired(url, **server).spec), *items)


@pytest.mark.parametrize("scoring", ["prompt_logprobs", "echo"])
def test_scores_are_those_of_the_engine_behind_the_server(
    direct: TransformersEngine, items: list[Item], scoring: str
) -> None:
    with serve(direct) as server:
        found = ask(server.url, items, scoring=scoring, concurrency=2)
    wanted = answers_of(direct, *items)
    for got, want, item in zip(found, wanted, items, strict=True):
        assert got.error is None and got.key == want.key == item.key
        assert got.token_logprobs == pytest.approx(want.token_logprobs, abs=1e-4)
        assert (got.prefix_tokens, got.cached_tokens) == (len(item.prefix_ids), 0)
    assert server.busiest <= 2
    path, key, body = server.seen[0]
    assert (path, key, body["model"]) == ("/v1/completions", None, "testbed")
    assert body["prompt"] in [[*i.prefix_ids, *(i.target_ids or ())] for i in items]


def test_generations_carry_tokens_seeds_and_stops(
    direct: TransformersEngine, items: list[Item]
) -> None:
    sampling = Sampling(max_tokens=30, logprobs=True, stop=(". ",))
    asked = [Item(i.model, i.prefix_ids, sampling, replicates=3) for i in items[:2]]
    with serve(direct) as server:
        found = ask(server.url, asked)
        greedy = ask(server.url, [Item(i.model, i.prefix_ids, Sampling(temperature=0))
                                  for i in items[:1]])  # fmt: skip
    want = answers_of(direct, *(
        Item(i.model, i.prefix_ids, sampling, seed=i.seed_of(r)) for i in asked
        for r in range(3)
    ))  # fmt: skip
    assert [(o.key, o.replicate) for o in found] == [(i.key, r) for i in asked for r in range(3)]
    assert [(o.token_ids, o.text, o.finish_reason) for o in found] == [
        (o.token_ids, o.text, o.finish_reason) for o in want
    ]
    assert all(a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-6)
               for a, b in zip(found, want, strict=True))  # fmt: skip
    assert greedy[0].error is None and "token_ids" not in server.seen[-1][2]


def rows(change: Callable[[list[Any]], Any]) -> Callable[[Any], Any]:
    def apply(reply: Any) -> Any:
        change(reply["choices"][0]["prompt_logprobs"])
        return reply

    return apply


def last(value: Any) -> Callable[[Any], Any]:
    """The last row's log-probability becomes a value."""
    return rows(lambda r: next(iter(r[-1].values())).update(logprob=value))


def without(reply: Any) -> Any:
    del reply["choices"][0]["prompt_logprobs"]
    return reply


def cached(reply: Any) -> Any:
    reply["usage"]["prompt_tokens_details"]["cached_tokens"] = reply["usage"]["prompt_tokens"]
    return reply


HOSTILE: dict[str, tuple[Callable[[Any], Any], str]] = {
    "nan": (last(math.nan), "malformed"),  # NaN is not JSON
    "inf": (last(-math.inf), "malformed"),
    "null": (last(None), "missing"),
    "text": (last("-1"), "malformed"),
    "bool": (last(True), "malformed"),
    "positive": (last(3.0), "malformed"),
    "null row": (rows(lambda r: r.__setitem__(-1, None)), "missing"),
    "number row": (rows(lambda r: r.__setitem__(-1, 7)), "missing"),
    "other token": (rows(lambda r: r.__setitem__(-1, {"1": {"logprob": -1.0}})), "wrong_token"),
    "short": (rows(lambda r: r.pop()), "missing"),
    "long": (rows(lambda r: r.append(None)), "missing"),
    "none": (without, "missing"),
    "cached": (cached, "cached"),
    "html": (lambda _: b"<html>\x1b[2J", "malformed"),
    "deep": (lambda _: b"[" * 100_000, "malformed"),
    "empty": (lambda _: {"choices": []}, "malformed"),
    "a list": (lambda _: {"choices": [[1]]}, "malformed"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_reply_that_cannot_be_trusted_is_a_failed_observation(
    direct: TransformersEngine, items: list[Item], name: str
) -> None:
    change, kind = HOSTILE[name]
    with serve(direct, change) as server:
        (o,) = ask(server.url, items[:1])
    assert o.error is not None and o.error.startswith(f"{kind}: "), o.error
    assert (o.finish_reason, o.token_logprobs, o.key) == ("error", None, items[0].key)
    assert len(server.seen) == 1


def test_echoed_tokens_are_checked_by_id_where_the_server_names_them(
    direct: TransformersEngine, items: list[Item]
) -> None:
    def named(how: Callable[[str], str]) -> Callable[[Any], Any]:
        def apply(reply: Any) -> Any:
            part = reply["choices"][0]["logprobs"]
            part["tokens"] = [how(t) for t in part["tokens"]]
            return reply

        return apply

    errors = []
    for how in (lambda t: t + "1", lambda t: "word"):
        with serve(direct, named(how)) as server:
            (o,) = ask(server.url, items[:1], scoring="echo")
        errors.append(o.error)
    assert errors[0] is not None and errors[0].startswith("wrong_token: ")
    assert errors[1] is None


def test_429_is_asked_again_and_a_refusal_is_not(
    direct: TransformersEngine, items: list[Item]
) -> None:
    good = Server(direct)

    def busy(r: Request) -> None:
        r.send(b"busy", 429, Retry_After="0") if r.number < 2 else good(r)

    with judge_server(busy) as server:
        (o,) = ask(server.url, items[:1], attempts=3)
        assert o.error is None and len(server.seen) == 3
    with judge_server(lambda r: r.send(b"busy", 429)) as server:
        (o,) = ask(server.url, items[:1], attempts=2)
        assert o.error == "rate_limited: 429 busy" and len(server.seen) == 2
    with judge_server(lambda r: r.send(b"too long", 400)) as server:
        (o,) = ask(server.url, items[:1])
        assert o.error == "refused: 400 too long" and len(server.seen) == 1
    with judge_server(lambda r: r.released.wait(30)) as server:
        (o,) = ask(server.url, items[:1], attempts=1, timeout_s=0.3)
        assert o.error is not None and o.error.startswith("timeout: ")


def test_an_overlong_probe_is_not_sent(direct: TransformersEngine, items: list[Item]) -> None:
    long = Item(items[0].model, (5,) * (CONTEXT - 1), target_ids=(6,))
    with serve(direct) as server:
        found = ask(server.url, [long, items[0]])
    assert found[0].error is not None and found[0].error.startswith("overlong: ")
    assert found[1].error is None and len(server.seen) == 1


@pytest.mark.parametrize(("said", "fits"), [("40", False), ("0", True), ('"x"', True)])
def test_a_window_that_is_shorter_at_the_server_holds(
    direct: TransformersEngine, items: list[Item], said: str, fits: bool
) -> None:
    models = f'{{"data": [{{"id": "testbed", "max_model_len": {said}}}]}}'.encode()
    with serve(direct) as server:
        server.respond_get = lambda r: r.send(models)
        (o,) = ask(server.url, items[:1])
    assert (o.error is None) == fits == (len(server.seen) == 1)
    if not fits:
        assert o.error is not None and "but the model's context holds 40" in o.error


def test_what_is_wrong_with_the_server_is_said_at_once(
    direct: TransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"needs engine\.server\.endpoint"):
        wired("")
    with serve(direct) as server:
        server.respond_get = lambda r: r.send(b'{"data": [{"id": "other"}]}')
        with pytest.raises(ModelLoadError, match="has no model 'testbed'; it has other"):
            build(wired(server.url).spec)
        build(wired(server.url, model="other").spec)
        server.respond_get = lambda r: r.send(b"no", 401)
        with pytest.raises(ModelLoadError, match="refuses the key"):
            build(wired(server.url).spec)
        with pytest.raises(ConfigError, match="TEST_KEY is not set"):
            build(wired(server.url, api_key_env="TEST_KEY").spec)
        monkeypatch.setenv("TEST_KEY", "k3y")
        seen: list[str | None] = []
        server.respond_get = lambda r: (seen.append(r.headers["Authorization"]), r.send(b"{}"))
        build(wired(server.url, api_key_env="TEST_KEY").spec)
        assert seen == ["Bearer k3y"]
    with pytest.raises(ModelLoadError, match="cannot be reached"):
        build(wired(server.url).spec)


def test_cite_through_a_server_says_what_the_direct_engine_says(
    direct: TransformersEngine, tmp_path: Path
) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps({
        "context": " Kale costs 4. Item Fig takes 7. Shop Oak adds 2.",
        "query": "How much is it for Kale and Fig at Oak?",
        "template": "Here are the notes.{context} {query}", "target": "Kale costs 4.",
        "response": "Let me find the bill for Kale and Fig at Oak. Kale costs 4.",
    }))  # fmt: skip
    options = ("--model", "testbed", "--ablations", "8", "--json")
    with serve(direct) as server:
        remote = invoke("cite", path, *options, "--engine", "openai", "--endpoint", server.url)
    local = invoke("cite", path, *options)
    assert remote.exit_code == local.exit_code == 0, remote.output
    a, b = (json.loads(r.stdout)["targets"][0] for r in (remote, local))
    assert a["label"] == b["label"] == "grounded"
    assert [s["value"] for s in a["spans"]] == pytest.approx(
        [s["value"] for s in b["spans"]], abs=1e-3
    )
    missing = invoke("cite", path, *options, "--engine", "openai")
    assert (missing.exit_code, "needs engine.server.endpoint" in missing.stderr) == (2, True)
