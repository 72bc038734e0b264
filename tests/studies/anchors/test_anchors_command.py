"""`tracelab anchors` and `tracelab label` on the scripted engine: limits, resume, labels."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.helpers import everything, invoke, rows, write_jsonl
from tests.judge_server import Request, judge_server
from tracelab.engines.scripted import Script
from tracelab.run.progress import RunProgress
from tracelab.text.categories import CATEGORIES

LEXICAL = ("--set", "anchors.similarity=lexical")


@pytest.fixture
def source(tmp_path: Path, script: Script, home: Path) -> Path:
    return write_jsonl(tmp_path / "mine.jsonl", script, 3)


def anchors(source: Path, *options: object, code: int = 0) -> str:
    result = invoke(
        "anchors", source, "--model", "scripted", "--engine", "scripted", *LEXICAL, *options
    )
    assert result.exit_code == code, result.stderr
    return result.stderr


def generated() -> int:
    distinct = "select distinct item_key, replicate, n_tokens from rollouts"
    sql = f"select sum(n_tokens) as n from ({distinct})"
    return int(rows(sql)[0]["n"])


def test_a_run_in_which_nothing_was_graded_does_not_end_green(source: Path) -> None:
    """Whatever rate of errors is allowed; and an ungraded or truncated rollout is one of them."""
    pattern = ("--set", "grading.kind=regex", "--set", "grading.pattern=(?P<answer>ZZZ)")
    few = ("--set", "anchors.allocation=uniform", "--rollouts", 4, "--max-error-rate", 1)
    said = anchors(source, *pattern, *few, "--name", "never", code=3)
    assert "none of the" in said and "without an answer" in said
    assert rows("select errors, ungraded, truncated from run_costs") == [
        {"errors": 0, "ungraded": 0, "truncated": 0}
    ]
    cut = ("--set", "anchors.allocation=uniform", "--rollouts", 4, "--max-tokens", 1)
    said = anchors(source, *cut, "--name", "cut", code=3)
    found = rows("select status, truncated, rollouts from run_costs where run_id = 'cut'")[0]
    assert found["status"] == "complete_with_errors" and 0 < found["truncated"]
    assert f"{found['truncated']:,} truncated" in said and "--max-error-rate" in said
    told = rows("from rollouts where run_id = 'cut' and grade_detail like 'truncated%'")
    assert {(r["grade_status"], r["reward"]) for r in told} == {("unanswered", 0.0)}
    assert {r["finish_reason"] for r in told} == {"length"}
    assert invoke("check").exit_code == 0
    again = anchors(source, *cut, "--set", "grading.truncated=graded", "--name", "fine",
                    "--max-error-rate", 1)  # fmt: skip
    assert "none of the" not in again


def test_it_stops_at_the_width_and_tells_what_it_found(source: Path) -> None:
    said = anchors(source, "--target-halfwidth", "0.15")
    assert " sentences decided, " in said and "of samples recycled" in said
    pooled = rows("select * from anchors where method = 'resample-pooled' and status = 'ok'")
    assert pooled and all((r["hi"] - r["lo"]) / 2 < 0.18 for r in pooled)
    assert {r["method"] for r in rows("from anchors")} >= {
        "resample", "resample-pooled", "counterfactual",
    }  # fmt: skip
    assert rows("select count(*) as n from sentence_links where status = 'ok'")[0]["n"] > 0
    assert rows("select count(*) as n from anchors where category is null")[0]["n"] == 0
    assert invoke("check").exit_code == 0


def test_the_budget_is_kept_and_the_forecast_comes_true(source: Path) -> None:
    options = ("--target-halfwidth", "0.02", "--budget-tokens", "4k")
    made = json.loads(
        invoke("anchors", source, "--model", "scripted", "--engine", "scripted", *LEXICAL,
               *options, "--dry-run", "--json").stdout
    )  # fmt: skip
    anchors(source, *options)
    assert made["generated_tokens_min"] <= generated() <= made["generated_tokens_max"] < 4_000 * 1.4
    assert 2_500 < generated() < 4_000 * 1.2


def test_an_interrupted_adaptive_run_ends_as_if_it_had_not_been(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--target-halfwidth", "0.12", "--set", "runtime.batch_rollouts=8")
    monkeypatch.setenv("TRACELAB_HOME", str(tmp_path / "whole"))
    anchors(source, *options)
    whole = everything()
    monkeypatch.setenv("TRACELAB_HOME", str(tmp_path / "torn"))
    steps: list[int] = []

    def press(*args: object) -> None:
        steps.append(1)
        if len(steps) % 7 == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "advance", press)
        anchors(source, *options, code=130)
        anchors(source, *options, code=130)
    anchors(source, *options)
    torn = everything()
    for table in ("items", "units", "scores", "links"):
        assert torn[table] == whole[table], table
    assert len(torn["rollouts"]) == len(whole["rollouts"])
    assert invoke("check").exit_code == 0


def test_compat_stores_the_published_names_beside_ours(source: Path) -> None:
    anchors(source, "--compat", "thought-anchors", "--rollouts", "6")
    sql = "select distinct metric from scores where method = 'thought-anchors'"
    found = {r["metric"] for r in rows(sql)}
    assert {"resampling_importance_accuracy", "counterfactual_importance_accuracy"} <= found
    assert rows("select count(*) as n from scores where method = 'force'")[0]["n"] > 0
    assert invoke("check").exit_code == 0


@pytest.mark.parametrize("amount", ["0", "lots", "-5k"])
def test_a_budget_that_is_no_number_is_one_sentence(source: Path, amount: str) -> None:
    result = invoke("anchors", source, "--model", "scripted", f"--budget-tokens={amount}")
    assert result.exit_code == 2
    assert "no number of tokens" in result.stderr


def test_a_model_labels_the_sentences_and_a_rebuild_keeps_the_labels(source: Path) -> None:
    anchors(source, "--rollouts", "4")

    def respond(request: Request) -> None:
        assert request.body["response_format"]["type"] == "json_schema"
        n = int(request.body["messages"][1]["content"].split()[0])
        labels = [{"index": i, "category": "self_checking"} for i in range(n - 1)]
        labels.append({"index": n - 1, "category": "; drop table units"})
        request.say(json.dumps({"labels": labels}))

    with judge_server(respond) as server:
        said = invoke("label", "mine", "--model", "m", "--endpoint", server.url)
    assert said.exit_code == 3, said.stderr  # one of each trace's sentences was not labelled
    sql = "select labeller, category, count(*) as n from units group by all order by n desc"
    by_model, *rest = rows(sql)
    assert (by_model["labeller"], by_model["category"]) == ("m", "self_checking")
    assert all(r["labeller"] == "rules" and r["category"] in CATEGORIES for r in rest)
    before = everything()["units"]
    assert invoke("rebuild", "mine").exit_code == 0
    assert everything()["units"] == before


def test_a_labeller_that_fails_changes_nothing(source: Path) -> None:
    anchors(source, "--rollouts", "4")
    before = everything()["units"]
    with judge_server(lambda r: r.say("no idea")) as server:
        said = invoke("label", "mine", "--model", "m", "--endpoint", server.url)
    assert said.exit_code == 3
    assert "0 of" in said.stderr
    assert everything()["units"] == before
    assert invoke("label", "nobody", "--model", "m", "--endpoint", "http://x/v1").exit_code == 2
