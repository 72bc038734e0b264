"""Models of ours as judges: from a run to an opinion, through an engine and its chat template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.judge_server import judge_server
from tracelab.core.episode import Episode, Step
from tracelab.core.errors import ConfigError
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Call, Observation
from tracelab.run.judges import JudgeSetup, OpenedJudge, asked
from tracelab.studies.audit.opinions.judges import JudgeOptions, Opinion, judged

METHODS = ["all-at-once", "step-by-step", "binary-search", "a2p"]


def episode(n: int) -> Episode:
    steps = tuple(Step(i, "llm", agent="Ann", content=f"text {i}") for i in range(n))
    return Episode(f"e{n}", steps, "x", task="t")


def opinion(by: OpenedJudge, n: int, method: str) -> Opinion:
    options = JudgeOptions(by.who, by.count, by.context_length, reply_tokens=8)
    return by.loop.drive(judged(episode(n), method, options))


def say(*texts: str, most: int = 50) -> Flow[list[Observation]]:
    heard: list[Observation] = []
    calls = [
        Call("chat", {"who": "x", "messages": [["user", text]], "max_tokens": most})
        for text in texts
    ]
    yield Ask("chats", calls, heard.extend)
    order = {call.key: i for i, call in enumerate(calls)}
    return sorted(heard, key=lambda o: order[o.key])


@pytest.fixture
def scripted() -> Iterator[OpenedJudge]:
    with asked(JudgeSetup("scripted", engine="scripted")) as by:
        yield by


def test_a_local_engine_answers(scripted: OpenedJudge) -> None:
    first = scripted.loop.drive(say("one", "two", "three"))
    assert all(o.error is None and o.value["text"] for o in first)
    [again] = scripted.loop.drive(say("one"))
    assert again.value == first[0].value  # the same request has the same answer
    assert scripted.budget.requests >= 3 and scripted.budget.output_tokens > 0


def test_what_a_local_engine_cannot_do_is_an_observation() -> None:
    with asked(JudgeSetup("scripted", engine="scripted", context=300)) as by:
        [late] = by.loop.drive(say("x" * 400))
        assert late.error is not None and late.error.startswith("overlong: 401 tokens, but")
    with asked(JudgeSetup("scripted", engine="scripted", max_requests=0)) as by:
        [refused] = by.loop.drive(say("x"))
        assert refused.error == "budget: the cap of 0 requests is reached"


@pytest.mark.parametrize("method", METHODS)
def test_judging_through_the_scripted_engine(method: str, scripted: OpenedJudge) -> None:
    found = opinion(scripted, 4, method)
    assert found.status in ("unparsed", "overlong"), found


@pytest.fixture(scope="module")
def bundled() -> Iterator[OpenedJudge]:
    with asked(JudgeSetup("testbed", engine="transformers")) as by:
        yield by


@pytest.mark.engine
@pytest.mark.parametrize("method", METHODS[:3])
def test_judging_through_the_transformers_engine(method: str, bundled: OpenedJudge) -> None:
    """The bundled model cannot judge; the path from run to opinion must hold all the same."""
    found = opinion(bundled, 2, method)
    assert found.status in ("unparsed", "ok"), found
    assert found.calls >= 1 and found.parse_failures
    if method != "step-by-step":  # which begins with logs that fit
        long = opinion(bundled, 200, method)
        assert long.status == "overlong" and long.calls == 0


def test_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with judge_server(lambda r: r.say("Agent: Ann\nStep: 1")) as server:
        setup: dict[str, Any] = {"model": "m", "endpoint": server.url}
        with asked(JudgeSetup(**setup)) as by:
            found = opinion(by, 3, "all-at-once")
        monkeypatch.delenv("NO_SUCH", raising=False)
        with (
            pytest.raises(ConfigError, match="the environment variable NO_SUCH is not set"),
            asked(JudgeSetup(**setup, api_key_env="NO_SUCH")),
        ):
            pass
    assert (found.step, found.agent, found.status) == (1, "Ann", "ok")
