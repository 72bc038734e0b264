"""A trace that another model made is told from one of the model that measures it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import invoke, rows, scripted_trace
from tracelab.engines.made_by import off_policy, same_model
from tracelab.engines.scripted import Script

SAME = [
    "Qwen/Qwen3-8B", "qwen3-8b", "/models/Qwen3-8B/", "hosted_vllm/Qwen/Qwen3-8B", "qwen3:8b",
    "Qwen3-8B@main", "qwen3-8b:latest", "Qwen3-8B@9c92abc1",
    "/hub/models--Qwen--Qwen3-8B/snapshots/9c92abc1d2",
]  # fmt: skip


@pytest.mark.parametrize("a", SAME)
@pytest.mark.parametrize("b", SAME)
def test_one_model_has_many_names(a: str, b: str) -> None:
    assert same_model(a, b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-4B"),
        ("llama-3.1-8b", "llama-3.1-8b-instruct"),
        ("Qwen3-8B", "Qwen3-8B-AWQ"),
        ("qwen3:8b", "qwen3:4b"),
        ("Qwen3-8B@9c92abc1", "Qwen3-8B@1111aaa"),
        ("Qwen3-8B", "/models/checkpoint-500"),
        ("gpt-4o", "testbed"),
    ],
)
def test_other_sizes_versions_and_commits_are_other_models(a: str, b: str) -> None:
    assert not same_model(a, b) and not same_model(b, a)


def test_any_name_of_the_measuring_model_will_do_and_none_is_unknown() -> None:
    assert off_policy("served-name", ["/models/x", "served-name"]) is False
    assert off_policy("other", ["/models/x", "served-name"]) is True
    assert off_policy(None, ["x"]) is None and off_policy("  ", ["x"]) is None


def records(folder: Path) -> Path:
    path, trace = folder / "t.jsonl", scripted_trace(Script.planted())
    record = {"prompt": trace.prompt[0].text, "response": trace.response, "reference": "7",
              "rendering": "raw"}  # fmt: skip
    models = {"mine": {"model": "org/Scripted"}, "other": {"model": "gpt-4o"}, "unknown": {}}
    lines = [{**record, "id": k, **m} for k, m in models.items()]
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


def anchors(path: Path, *more: Any) -> Any:
    return invoke("anchors", path, "--model", "scripted", "--engine", "scripted", "--rollouts", "3",
                  "--name", "r", "--method", "resample", *more)  # fmt: skip


def test_who_measures_another_models_trace_is_told(home: Path, tmp_path: Path) -> None:
    path = records(tmp_path)
    said = anchors(path)
    assert said.exit_code == 0, said.output
    assert "1 of 3 traces were made by another model ('gpt-4o')" in said.stderr
    found = {r["name"]: r["off_policy"] for r in rows("select name, off_policy from traces")}
    assert found == {"mine": False, "other": True, "unknown": None}
    assert "another model: made by gpt-4o" in invoke("show", "other").output
    assert "another model" not in invoke("show", "mine").output
    report = tmp_path / "r.html"
    assert invoke("report", "r", "--out", report).exit_code == 0
    assert "another model than made the traces" in report.read_text()


def test_what_is_meant_is_not_warned_of_and_stays_a_fact(home: Path, tmp_path: Path) -> None:
    said = anchors(records(tmp_path), "--off-policy", "meant")
    assert said.exit_code == 0 and "another model" not in said.output
    assert rows("select count(*) as n from traces where off_policy") == [{"n": 1}]
    assert "another model" not in invoke("show", "other").output
    again = anchors(tmp_path / "t.jsonl")
    assert again.exit_code == 0, "the same run goes on: no number depends on it"


def test_opinions_are_of_no_policy(home: Path, tmp_path: Path) -> None:
    from tests.agent_files import failed_runs, write_openai

    said = invoke("audit", write_openai(tmp_path, failed_runs(1)), "--opinion", "error-rule",
                  "--model", "testbed")  # fmt: skip
    assert said.exit_code == 0, said.output
    assert rows("select off_policy from traces") == [{"off_policy": None}]
