"""Audits of agents whose model is behind a chat endpoint: verdicts, bills, caps, odd servers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.agent_files import failed_runs
from tests.conftest import SCRIPT_REF
from tests.helpers import answers_of, invoke, rows, write_jsonl
from tests.hosted import PolicyServer, write_text_logs
from tests.judge_server import Request, judge_server
from tracelab.core.item import Item, Sampling
from tracelab.core.trace import Turn
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import Script, ScriptedEngine, ScriptTokenizer
from tracelab.testbed.agent_runs import planted

RUNS = failed_runs(2)
SHORT = ("--rollouts", "4", "--controls", "1", "--confirm", "2", "--corrections", "1", "--quiet")
PRICES = ("--input-price", "3", "--output-price", "15")


def audit(logs: Path, url: str, *more: object) -> tuple[object, ...]:
    return ("audit", logs, "--engine", "chat", "--endpoint", url, "--model", "policy",
            "--environment", "tests.agent_files:Market", *SHORT, *PRICES, *more)  # fmt: skip


def kinds() -> set[str]:
    """Kinds of errors of the re-executions."""
    found = rows("select error from reruns where error is not null")
    return {r["error"].partition(":")[0] for r in found}


def bill(server: PolicyServer) -> float:
    return (server.bill["prompt_tokens"] * 3 + server.bill["completion_tokens"] * 15) / 1e6


@pytest.mark.slow
def test_verdicts_the_bill_and_the_forecast(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOSTED_API_KEY", "sk-a-secret-0123456789")
    logs, policy = write_text_logs(tmp_path / "logs.jsonl", RUNS), PolicyServer(RUNS)
    with judge_server(policy) as server:
        command = audit(logs, server.url, "--api-key-env", "HOSTED_API_KEY")
        said = json.loads(invoke(*command, "--dry-run", "--json").stdout)
        assert server.seen == []
        assert invoke(*command).exit_code == 0
        sent = len(server.seen)
        assert invoke(*command).exit_code == 0 and len(server.seen) == sent, (
            "nothing is left to ask"
        )
    assert {key for _, key, _ in server.seen} == {"Bearer sk-a-secret-0123456789"}
    kept = b"".join(p.read_bytes() for p in home.rglob("*") if p.is_file())
    assert b"sk-a-secret" not in kept
    assert said["money_min"] <= bill(policy) <= said["money_max"]
    [costs] = rows("select money, requests, prompt_tokens from run_costs")
    assert costs["money"] == pytest.approx(bill(policy)) and costs["requests"] >= sent
    assert rows("select repeats from runs") == [{"repeats": True}]
    sql = "select t.name, v.decisive_step, v.credible_set::json cs from verdicts v join traces t " \
          "using (run_id, trace_id)"  # fmt: skip
    for found in rows(sql):
        run = next(r for r in RUNS if r.name == found["name"])
        _, action = planted(run.task, run.actions)
        if action is not None:
            assert found["decisive_step"] == run.steps[action] + 1, "a log's first step is its task"
    assert invoke("check").exit_code == 0
    before = rows("select * from verdicts order by all")
    assert invoke("rebuild", "audit").exit_code == 0
    assert rows("select * from verdicts order by all") == before
    assert rows("select repeats from runs") == [{"repeats": True}]


def oddly(r: Request, reply: dict[str, Any]) -> bool:
    """Every seventh request is answered in another wrong way."""
    choice = reply["choices"][0]
    wrong = {
        0: lambda: r.send(b"later", 429, Retry_After="0"),
        1: lambda: r.send(b"no", 500),
        2: lambda: r.send(b"no", 400),
        3: lambda: r.send(b"<html>"),
        4: lambda: r.send(b'{"choices": []}'),
        5: lambda: r.send(json.dumps({"choices": [choice, choice]}).encode()),
        6: lambda: r.send(b"x" * (5 << 20)),
        7: lambda: r.say(None, "content_filter"),
    }
    if r.number % 7:
        return False
    wrong[r.number // 7 % len(wrong)]()
    return True


@pytest.mark.slow
def test_an_odd_server_costs_failed_observations_and_nothing_else(
    tmp_path: Path, home: Path
) -> None:
    logs = write_text_logs(tmp_path / "logs.jsonl", RUNS[:1])
    policy = PolicyServer(RUNS, oddly)
    with judge_server(policy) as server:
        command = audit(logs, server.url, "--set", "engine.server.backoff_s=0.0")
        result = invoke(*command)
        assert result.exit_code == 3, result.output
        errors = {
            r["error"].partition(":")[0] for r in rows("select error from reruns") if r["error"]
        }
        assert errors <= {"refused", "malformed", "filtered", "rate_limited", "server_error"}
        assert {"malformed", "refused"} <= errors
        assert invoke("check").exit_code == 0
        policy.odd = lambda r, reply: False
        assert invoke(*command, "--retry-errors").exit_code == 0
    assert rows("select 1 from reruns where error is not null") == []
    assert invoke("check").exit_code == 0


def test_a_cap_holds_and_a_higher_one_goes_on(tmp_path: Path, home: Path) -> None:
    logs, policy = write_text_logs(tmp_path / "logs.jsonl", RUNS[:1]), PolicyServer(RUNS)
    with judge_server(policy) as server:
        assert invoke(*audit(logs, server.url, "--max-requests", "20")).exit_code == 3
        assert len(server.seen) == 20
        assert {r["error"].partition(":")[0] for r in rows("select error from reruns")} >= {
            "budget"
        }
        assert invoke(*audit(logs, server.url, "--max-requests", "20")).exit_code == 3
        assert len(server.seen) == 20, "a cap is of the run, not of a session"
        spent = bill(policy)
        assert invoke(*audit(logs, server.url, "--max-cost", str(1.5 * spent))).exit_code == 3
        assert bill(policy) <= 1.5 * spent
        assert invoke(*audit(logs, server.url)).exit_code == 0
    assert rows("select 1 from reruns where error is not null") == []
    assert max(policy.served.values()) == 2 and sum(n > 1 for n in policy.served.values()) == 1, (
        "only the question whether a seed repeats itself is asked twice"
    )
    [costs] = rows("select money from run_costs")
    assert costs["money"] == pytest.approx(bill(policy))


@pytest.mark.slow
def test_kill_9_costs_what_was_in_flight(tmp_path: Path, home: Path) -> None:
    logs = write_text_logs(tmp_path / "logs.jsonl", RUNS[:1])
    killed: list[int] = []

    def kill(r: Request, reply: dict[str, Any]) -> bool:
        if r.number >= 30 and not killed:
            killed.append(r.number)
            os.kill(process.pid, signal.SIGKILL)
        return False

    policy = PolicyServer(RUNS, kill)
    with judge_server(policy) as server:
        more = ("--set", "engine.server.concurrency=2")
        command = [str(a) for a in audit(logs, server.url, *more)]
        process = subprocess.Popen([sys.executable, "-m", "tracelab", *command])
        process.wait(120)
        assert killed
        assert invoke(*command).exit_code == 0
    # One is asked twice on purpose; two were on their way.
    assert sum(n - 1 for n in policy.served.values()) <= 3
    assert rows("select 1 from reruns where error is not null") == []
    assert invoke("check").exit_code == 0


def scripted(r: Request) -> None:
    """A chat endpoint over a script: it continues the message that it is given in part."""
    *asked, last = r.body["messages"]
    begun = last["content"] if r.body.get("continue_final_message") else ""
    asked = asked if begun else [*asked, last]
    prompt = TOKENIZER.render([Turn("user", m["content"]) for m in asked], "chat")
    how = Sampling(max_tokens=r.body["max_tokens"])
    ids = prompt + TOKENIZER.encode_text(begun)
    [o] = answers_of(ENGINE, Item(SCRIPT_REF, ids, how, seed=r.body["seed"]))
    r.say(o.text, prompt_tokens=len(ids), completion_tokens=len(o.token_ids))


SCRIPT = Script.planted()
TOKENIZER = ScriptTokenizer(SCRIPT)
ENGINE = ScriptedEngine(EngineSpec("scripted", "scripted", SCRIPT_REF, 4096))


def test_anchors_continue_a_message_and_find_what_decides(tmp_path: Path, home: Path) -> None:
    logs = write_jsonl(tmp_path / "t.jsonl", SCRIPT, 2)
    with judge_server(scripted) as server:
        base = ("anchors", logs, "--engine", "chat", "--endpoint", server.url, "--model", "s")
        refused = invoke(*base)
        assert refused.exit_code == 2 and "--continuation vllm" in refused.stderr
        assert server.seen == []
        more = ("--similarity", "lexical", "--rollouts", "12", "--initial", "12", "--quiet")
        assert invoke(*base, "--continuation", "vllm", *more).exit_code == 0
    sql = (
        "select text, value from anchors where method = 'resample-pooled' and value is not null "
        "order by abs(value) desc limit 1"
    )
    [top] = rows(sql)
    assert "two prices" in top["text"] and abs(top["value"]) > 0.2, "the plan decides"
    assert rows("select error from rollouts where error is not null") == []
    assert invoke("check").exit_code == 0
