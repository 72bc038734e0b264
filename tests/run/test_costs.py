"""Costs are what the journal holds: of engines, re-executions, judges and graders, in money too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.agent_files import failed_runs, write_openai
from tests.helpers import invoke, rows, scripted_trace
from tests.judge_server import judge_server
from tracelab.core.item import Observation
from tracelab.core.seam import at_endpoint
from tracelab.engines.scripted import Script
from tracelab.run.config import parse_config
from tracelab.run.session import prices_of
from tracelab.store.costs import settled
from tracelab.store.journal import Journal
from tracelab.store.spent import Total

PRICES = {"input_price": 2.0, "output_price": 10.0}


def anchors(folder: Path, **more: Any) -> dict[str, Any]:
    path = folder / "t.jsonl"
    trace = scripted_trace(Script.planted())
    record = {"id": "a", "prompt": trace.prompt[0].text, "response": trace.response,
              "reference": "7", "rendering": "raw"}  # fmt: skip
    path.write_text(json.dumps(record) + "\n")
    return {"name": "r", "source": str(path), "model": "scripted", "engine": {"kind": "scripted"},
            "anchors": {"rollouts": 3, "methods": ["resample"]}, **more}  # fmt: skip


def run(config: dict[str, Any], folder: Path) -> None:
    file = folder / "c.toml"
    file.write_text("\n".join(toml(config)))
    result = invoke("run", file, "--quiet")
    assert result.exit_code in (0, 3), result.output


def toml(data: dict[str, Any], at: str = "") -> list[str]:
    plain = [f"{k} = {json.dumps(v)}" for k, v in data.items() if not isinstance(v, dict)]
    for k, v in data.items():
        if isinstance(v, dict):
            plain += [f"[{at}{k}]", *toml(v, f"{at}{k}.")]
    return plain


def only() -> dict[str, Any]:
    [found] = rows("select * from run_costs")
    return found


def test_an_observation_says_what_it_cost() -> None:
    paid = at_endpoint(3, 50, 7, 0.25)
    total = Total.of([
        Observation("a", 0, token_ids=(1, 2), prefix_tokens=10),
        Observation("b", 0, token_logprobs=(-1.0, -2.0, -3.0), prefix_tokens=10),
        Observation("c", 0, finish_reason="error", error="engine: x", prefix_tokens=10),
        Observation("d", 0, finish_reason="error", error="overlong: x", prefix_tokens=10),
        Observation.of("e", 0, {"text": "hi", **paid}),
        Observation("e", 1, finish_reason="error", error="timeout: x", text=json.dumps(paid)),
        Observation.of("grade/f", 0, {"reply": '"requests": 9', **at_endpoint(1, None, None, 0)}),
        Observation.of("g", 0, {"actions": ['{"requests": 5}'], "tokens": 9}),
    ])  # fmt: skip
    assert (total.observations, total.errors) == (8, 3)
    engine, judges, grading = (total.by[s] for s in ("engine", "judges", "grading"))  # type: ignore[index]
    assert (engine.requests, engine.prompt_tokens, engine.generated_tokens) == (3, 23, 2)
    assert (judges.requests, judges.prompt_tokens, judges.generated_tokens) == (6, 100, 14)
    assert (grading.requests, grading.prompt_tokens, judges.seconds) == (1, 0, 0.5)
    assert Total.from_json(json.loads(json.dumps(total.to_json()))) == total


def test_a_run_costs_what_its_journal_holds(home: Path, tmp_path: Path) -> None:
    run(anchors(tmp_path), tmp_path)
    cost = only()
    assert cost["requests"] > 0 and cost["generated_tokens"] > 0 and cost["money"] is None
    assert cost["endpoint_requests"] == 0
    assert invoke("check").exit_code == 0
    with duckdb.connect(str(home / "tracelab.duckdb")) as con:
        con.execute("UPDATE sessions SET generated_tokens = generated_tokens - 1")
    said = invoke("check")
    assert said.exit_code == 1 and "sessions_add_up: 1 rows" in said.stderr
    assert invoke("rebuild", "r").exit_code == 0
    assert invoke("check").exit_code == 0 and only() == cost


def test_what_a_killed_invocation_did_not_write_down_is_in_its_journal(
    home: Path, tmp_path: Path
) -> None:
    run(anchors(tmp_path), tmp_path)
    wanted = only()
    journal = Journal(str(home / "runs"), "r")
    [(name, session)] = journal.sessions()
    stale = {**session, "closed": False, "requests": 1, "generated_tokens": 0, "observations": 2}
    journal.write_json(name, stale)
    settled(journal, prices_of(parse_config(anchors(tmp_path), "x")))
    [(_, found)] = journal.sessions()
    assert found["closed"]
    journal.close()
    for column in ("requests", "generated_tokens", "observations", "prompt_tokens"):
        assert found[column] == session[column], column
    assert invoke("rebuild", "r").exit_code == 0
    assert only() == wanted and invoke("check").exit_code == 0


def test_a_grading_judge_has_its_requests_tokens_and_money(home: Path, tmp_path: Path) -> None:
    def answer(r: Any) -> None:
        if r.number == 0:
            r.send(b"busy", 503)
        elif r.number == 1:
            r.send(b"no", 400)
        else:
            r.say('{"verdict": "correct"}', prompt_tokens=100, completion_tokens=5)

    with judge_server(answer) as server:
        judge = {"base_url": server.url, "model": "j", "rubric": "Is it right?", "backoff_s": 0.01,
                 **PRICES}  # fmt: skip
        run(anchors(tmp_path, grading={"kind": "judge", "judge": judge, "workers": 1}), tmp_path)
        sent = len(server.seen)
    cost = only()
    replies = sent - 2
    assert replies > 0 and cost["endpoint_requests"] == sent
    assert cost["endpoint_prompt_tokens"] == 100 * replies
    assert cost["endpoint_generated_tokens"] == 5 * replies
    assert cost["money"] == pytest.approx((100 * 2 + 5 * 10) * replies / 1e6)
    assert cost["generated_tokens"] > cost["endpoint_generated_tokens"]
    assert cost["endpoint_seconds"] > 0
    assert invoke("check").exit_code == 0


def test_prices_may_change_while_a_run_goes_on() -> None:
    judge = {"base_url": "http://x/v1", "model": "j", "rubric": "r"}
    base = {"name": "r", "source": "x", "model": "scripted", "engine": {"kind": "scripted"}}
    free = parse_config({**base, "grading": {"kind": "judge", "judge": judge}}, "x")
    paid = parse_config({**base, "grading": {"kind": "judge", "judge": judge | PRICES}}, "x")
    assert free.digest == paid.digest


def test_opinions_of_an_endpoint_have_a_cost(home: Path, tmp_path: Path) -> None:
    path = write_openai(tmp_path, failed_runs(2))

    def answer(r: Any) -> None:
        r.say("Agent Name: worker\nStep Number: 1\nReason: x", prompt_tokens=40,
              completion_tokens=3)  # fmt: skip

    with judge_server(answer) as server:
        said = invoke(
            "audit", path, "--opinion", "all-at-once", "--endpoint", server.url, "--judge", "j",
            "--set", "audit.judge.input_price=1.0", "--json",
        )  # fmt: skip
        assert said.exit_code == 0, said.output
        sent = len(server.seen)
    cost = only()
    assert sent == 2 and cost["requests"] == cost["endpoint_requests"] == sent
    assert (cost["prompt_tokens"], cost["generated_tokens"]) == (40 * sent, 3 * sent)
    assert cost["money"] == pytest.approx(40 * sent / 1e6)
    assert invoke("check").exit_code == 0
