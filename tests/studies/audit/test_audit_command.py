"""Audits from files to warehouse: opinions without an engine, and executed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tracelab
from tests.helpers import invoke, rows
from tests.judge_server import Request, judge_server
from tracelab.core.errors import ConfigError
from tracelab.run.config import load_config
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.query import check


def who_and_when(folder: Path, n: int) -> Path:
    folder.mkdir()
    for i in range(n):
        history = [
            {"role": "user", "name": "Manager", "content": "Count the pens."},
            {"role": "assistant", "name": "Coder", "content": f"I count {i}."},
            {"role": "user", "name": "Computer_terminal", "content": "exitcode: 1 Error"},
            {"role": "assistant", "name": "Checker", "content": "Done \x1b[31m<b>7</b>"},
        ]
        record = {
            "is_correct": False, "question": f"How many, {i}?", "question_ID": str(i),
            "ground_truth": "8", "history": history, "mistake_agent": "Coder",
            "mistake_step": "1", "mistake_reason": "wrong",
        }  # fmt: skip
        (folder / f"{i}.json").write_text(json.dumps(record))
    return folder


def clean_warehouse() -> None:
    with open_reader(Home.at().database) as con:
        assert [r for r in check(con) if r.violations] == []


def test_opinions_are_verdicts_of_their_own_kind(tmp_path: Path, home: Path) -> None:
    folder = who_and_when(tmp_path / "logs", 5)
    back = tmp_path / "back.jsonl"
    opinions = ("--opinion", "error-rule", "--opinion", "last-llm-step")
    result = invoke("audit", folder, *opinions, "--json", "--write-back", back)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["verdicts"], found["judges"]) == ([], []), "nothing was executed, nobody asked"
    assert len(found["rules"]) == 10
    by_rule = {(r["method"], r["step"]) for r in found["rules"]}
    assert by_rule == {("rule:error-rule", 1), ("rule:last-llm-step", 3)}
    assert not {"posterior", "decisive_step", "evidence"} & found["rules"][0].keys()
    assert len(back.read_text().splitlines()) == 10
    assert rows("from blame") == rows("from blame_by_version") == rows("from clusters") == []
    assert rows("select distinct metric, status from scores") == [{"metric": "named",
                                                                   "status": "ok"}]  # fmt: skip
    assert rows("select distinct status from verdicts") == [{"status": "ambiguous"}]
    shown = invoke("query", "named_steps", "--json")
    assert [(r["kind"], r["agent"], r["failures"]) for r in json.loads(shown.stdout)] == [
        ("rule", "Coder", 5), ("rule", "Checker", 5),
    ]  # fmt: skip
    [provenance] = rows("select model, model_revision, dtype from run_provenance")
    assert set(provenance.values()) == {None}, "a rule asks no model"
    table = invoke("audit", folder, *opinions, "--table")
    assert "no model was asked" in table.stdout and "probability" not in table.stdout
    clean_warehouse()
    before = rows("select * from verdicts order by all")
    assert invoke("rebuild", "audit").exit_code == 0
    assert rows("select * from verdicts order by all") == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "give --environment"),
        (["--opinion", "errorrule"], "there is no 'errorrule'"),
        (["--environment", "nothing"], "use testbed, replay"),
    ],
)
def test_what_cannot_be_audited_is_one_sentence(
    tmp_path: Path, home: Path, arguments: list[str], says: str
) -> None:
    folder = who_and_when(tmp_path / "logs", 1)
    result = invoke("audit", str(folder), *arguments)
    assert result.exit_code == 2
    assert says in result.stderr and "Traceback" not in result.output


def test_no_model_is_asked_that_the_user_did_not_name(tmp_path: Path, home: Path) -> None:
    """Never the bundled one: what it would do says nothing of the user's runs."""
    folder = who_and_when(tmp_path / "logs", 1)
    for arguments in (["--environment", "replay"], ["--opinion", "a2p"]):
        result = invoke("audit", folder, *arguments, "--dry-run")
        assert result.exit_code == 2 and not home.exists()
        assert "`--model` is missing: which model wrote these runs" in result.stderr
    with pytest.raises(ConfigError, match="`model` is missing"):
        tracelab.audit(folder, environment="replay", home=home)
    assert invoke("audit", folder, "--opinion", "error-rule").exit_code == 0
    assert rows("select model, engine from runs") == [{"model": None, "engine": "none"}]
    assert invoke("rebuild", "audit").exit_code == 0
    clean_warehouse()


@pytest.mark.parametrize(
    "options",
    [
        ["--dry-run"],
        ["--set", "audit.judge.reply_tokens=64"],
        ["--quiet"],
        ["--budget-tokens", "2k"],
        ["--seed", "3"],
        ["--limit", "2"],
        ["--dry-run", "--set", "name=other", "--quiet", "--budget-tokens", "1", "--seed", "3",
         "--limit", "2", "--json"],
    ],
)  # fmt: skip
def test_an_audit_takes_what_every_verb_takes(
    tmp_path: Path, home: Path, options: list[str]
) -> None:
    folder = who_and_when(tmp_path / "logs", 3)
    result = invoke("audit", folder, "--opinion", "busiest-agent", *options)
    assert result.exit_code == 0, result.output
    if "--dry-run" in options:
        assert not home.exists()
        assert "--json" in options or "nothing was written" in result.stderr
        return
    kept = {"--limit": 2}.get(options[0], 3)
    assert rows("select count(*) as n from verdicts") == [{"n": kept}]
    [config] = rows("select config from runs")
    found = json.loads(config["config"])
    audit = found["audit"]
    given = [found["seed"], audit["budget_tokens"], audit["judge"]["reply_tokens"]]
    wanted = {"--seed": [3, None, 1024], "--budget-tokens": [0, 2000, 1024],
              "--set": [0, None, 64]}  # fmt: skip
    assert given == wanted.get(options[0], [0, None, 1024])
    assert ("observations" in result.stderr) == (options != ["--quiet"])


def test_what_judges_would_cost_is_forecast(tmp_path: Path, home: Path) -> None:
    folder = who_and_when(tmp_path / "logs", 2)
    result = invoke(
        "audit", folder, "--opinion", "all-at-once", "--endpoint", "http://x/v1", "--judge", "j",
        "--set", "audit.judge.reply_tokens=100", "--dry-run", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    [stage] = json.loads(result.stdout)["stages"]
    assert stage["requests"] == 2 and stage["prompt_tokens"] > 0
    assert (stage["generated_tokens_min"], stage["generated_tokens_max"]) == (2, 200)


def test_the_bundled_configs_are_audits() -> None:
    for name in ("audit/demo", "audit/who_and_when"):
        config = load_config(Path(name))
        assert config.study == "audit"
        assert config.audit.environment or config.audit.opinions


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path, home: Path) -> None:
    log = tmp_path / "log.jsonl"
    messages = [
        {"role": "user", "content": "Find 7."},
        {"role": "assistant", "content": "<think>\nI look."},
        {"role": "user", "content": "Go on."},
        {"role": "assistant", "content": "<think>\nNot found."},
    ]
    log.write_text(json.dumps({"messages": messages, "success": False}) + "\n")
    config = tmp_path / "c.toml"
    config.write_text(
        f'name = "a"\nstudy = "audit"\nsource = "{log}"\nmodel = "testbed"\n'
        '[source_options]\nformat = "openai-chat"\n[audit]\nenvironment = "replay"\n'
    )
    result = invoke("run", config, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    stages = {s["stage"]: s for s in json.loads(result.stdout)["stages"]}
    assert stages["scoring steps"]["requests"] == 2
    assert stages["re-executions"]["rollouts"] == 8
    assert stages["re-executions"]["requests"] == 12
    assert not home.exists()


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(900)
def test_failures_are_executed_again(tmp_path: Path, home: Path) -> None:
    """The bundled model under transformers; a second command has nothing left to do."""
    tests = tmp_path / "tests"
    arguments = [
        "testbed", "--environment", "testbed", "--engine", "transformers", "--dtype", "float32",
        "--max-tokens", "64", "--limit", "6", "--seed", "3", "--rollouts", "4", "--json",
        "--opinion", "error-rule", "--export-tests", str(tests),
    ]  # fmt: skip
    result = invoke("audit", *arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)["verdicts"]
    assert found
    assert {r["status"] for r in found} <= {"localized", "ambiguous", "unidentifiable"}
    labels = {
        r["name"]: r["label_step"]
        for r in rows("select t.name, e.label_step from episodes e join traces t using (trace_id)")
    }
    sure = [r for r in found if r["status"] == "localized" and labels[r["trace"]] is not None]
    assert all(r["decisive_step"] == labels[r["trace"]] for r in sure)
    assert list(tests.glob("test_*.py")) or not any(r["correctable_step"] for r in found)
    observations = rows("select sum(observations) as n from sessions")
    clean_warehouse()
    again = invoke("audit", *arguments)
    assert json.loads(again.stdout) == json.loads(result.stdout)
    assert rows("select sum(observations) as n from sessions") == observations


def hostile(r: Request) -> None:
    """A server that does to each run what its number says."""
    asked = r.body["messages"][1]["content"]
    i = int(asked.split("How many, ")[1].split("?")[0])
    if i == 0:
        r.say("Agent: Coder\nStep: 1\nReason: it \x1b[2J</td><script>alert(1)</script>")
    elif i == 1:
        r.say("Agent: Coder\nStep: 1 2 3")
    elif i == 2:
        r.say("Agent: Nobody\nStep: ", "length")
    elif i == 3:
        r.send(b'{"choices": [{"message": {"content": ', 200)
    elif i == 4:
        r.send(b"slow down", 429, Retry_After="0")
    elif i == 5:
        r.send(b"\xff\xfe" * 5_000_000)
    elif i == 6:
        r.released.wait()  # never, until the test is over
    else:
        r.say("Ignore the log. Step: 99\n" + "Step: 1\nStep: 2\n" * 5000)


def test_judges_behind_a_hostile_endpoint_are_counted_and_never_scored(
    tmp_path: Path, home: Path
) -> None:
    folder = who_and_when(tmp_path / "logs", 8)
    config = tmp_path / "c.toml"

    def run(url: str, expected: int) -> str:
        config.write_text(
            f'name = "j"\nstudy = "audit"\nsource = "{folder}"\nmodel = "testbed"\n'
            '[audit]\nopinions = ["all-at-once", "error-rule"]\n'
            f'[audit.judge]\nendpoint = "{url}"\nmodel = "m"\ntimeout_s = 10.0\nattempts = 1\n'
            "[runtime]\nmax_error_rate = 0.01\n"
        )
        result = invoke("run", config)
        assert result.exit_code == expected, result.output
        return result.stderr

    with judge_server(hostile) as server:
        said = run(server.url, 3)
        assert len(server.seen) == 8
        assert "4 calls failed, 3 answers name no step" in said
        judged = {r["task_id"]: r for r in rows(
            "select e.task_id, v.*, v.extra ->> 'opinion' as opinion from verdicts v "
            "join episodes e using (run_id, trace_id) where method = 'judge:all-at-once'"
        )}  # fmt: skip
        assert [judged[str(i)]["opinion"] for i in range(8)] == [
            "ok", "ok", "unparsed", *["failed"] * 4, "unparsed",
        ]  # fmt: skip
        assert [judged[str(i)]["decisive_step"] for i in range(8)] == [1, *[None] * 7]
        kinds = ["malformed", "rate_limited", "malformed", "timeout"]
        for i, kind in enumerate(kinds, 3):
            assert judged[str(i)]["reason"].startswith(kind), judged[str(i)]["reason"]
        assert rows("from blame") == [], "opinions are no probabilities"
        named = rows("select kind, status, count(*) as n from named_steps group by all "
                     "order by all")  # fmt: skip
        assert [tuple(r.values()) for r in named] == [
            ("judge", "failed", 4), ("judge", "named", 1), ("judge", "none", 3),
            ("rule", "named", 8),
        ]  # fmt: skip
        who = "select distinct extra ->> 'model' as m from verdicts where method like 'judge:%'"
        assert rows(who) == [{"m": "m"}]
        assert rows("select model from runs") == [{"model": None}], "the run's own was not asked"
        clean_warehouse()
        # What was answered is not asked again; what was not is, and the same server may now speak.
        server.respond = lambda r: r.say("Agent: Coder\nStep: 1\nReason: x")
        run(server.url, 0)
        assert len(server.seen) == 12
    shown = invoke("query", "named_steps", "-p", "run=j", "--table").stdout
    assert "\x1b[2J" not in shown
    clean_warehouse()


def test_an_endpoint_needs_a_model_and_a_key(tmp_path: Path, home: Path) -> None:
    folder = who_and_when(tmp_path / "logs", 1)
    base = [str(folder), "--opinion", "a2p", "--endpoint", "http://127.0.0.1:9/v1"]
    no_key = ["--judge", "m", "--api-key-env", "NO_SUCH"]
    wrong = [([], "needs both --endpoint and --judge"), (no_key, "NO_SUCH is not set")]
    for more, says in wrong:
        result = invoke("audit", *base, *more)
        assert result.exit_code == 2 and says in result.stderr, result.output
