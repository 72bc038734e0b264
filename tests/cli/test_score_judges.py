"""`score-judges` as its user runs it: floors, a judge behind an endpoint, predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.judge_server import Request, judge_server
from tracelab.cli.score_judges import score_judges

N = 8


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "ww"
    folder.mkdir()
    for i in range(N):
        history = [{"role": "human", "content": "go"}] + [
            {"role": f"Agent{k % 2}", "content": f"step {k}"} for k in range(1, 5)
        ]
        record = {
            "history": history, "question": f"Q{i}?", "ground_truth": "s3cret",
            "is_corrected": False, "question_ID": str(i), "mistake_agent": f"Agent{i % 2}",
            "mistake_step": str(2 + i % 2), "mistake_reason": "r",
        }  # fmt: skip
        (folder / f"{i}.json").write_text(json.dumps(record))
    return folder


def judged(*args: object) -> Result:
    return CliRunner().invoke(score_judges, [str(a) for a in args], catch_exceptions=False)


def table(result: Result) -> dict[str, dict[str, Any]]:
    return {row["method"]: row for row in json.loads(result.stdout)}


def test_floors(data: Path) -> None:
    result = judged(data, "--json")
    assert result.exit_code == 0
    rows = table(result)
    assert list(rows) == ["uniform", "uniform-llm", "first-step", "last-llm-step",
                          "busiest-agent", "step-mode", "llm-step-mode", "error-rule"]  # fmt: skip
    error = rows["error-rule"]  # the second agent step, which is step 2
    assert (error["step"], error["agent"], error["n"]) == (0.5, 0.5, N)
    assert error["within_1"] == 1.0
    assert rows["step-mode"]["step"] == 0.0  # leaving one out, the other step leads
    assert rows["uniform"]["step"] == pytest.approx(1 / 5)
    assert error["gain"] is None and error["best_floor"] == "error-rule"
    assert rows["uniform"]["gain"] == pytest.approx(1 / 5 - 1 / 2)
    assert rows["uniform"]["gain_hi"] < 0.15
    assert error["step_lo"] == pytest.approx(0.2152, abs=1e-4)  # Wilson, 4 of 8


def oracle(r: Request) -> None:
    asked = r.body["messages"][1]["content"]
    i = int(asked.split("Q")[1].split("?")[0])
    if i == 0:
        r.say("Step: 1 2 3 4\nAgent: Agent0")
    elif i == 1:
        r.send(b"no", 400)
    else:
        r.say(f"Agent: Agent{i % 2}\nStep: {2 + i % 2}\nReason: r")


def test_a_judge_behind_an_endpoint(data: Path) -> None:
    with judge_server(oracle) as server:
        result = judged(data, "--method", "all-at-once", "--endpoint", server.url, "--model", "m",
                       "--json")  # fmt: skip
    assert result.exit_code == 3  # 1 of 8 calls failed, more than 5 %
    (row,) = table(result).values()
    assert (row["n"], row["cases"], row["failed"]) == (7, 8, 1)
    assert row["unparsed"] == {"not_an_integer": 1}
    assert row["step"] == pytest.approx(6 / 7) and row["agent"] == 1.0
    assert row["gain"] == pytest.approx((6 - 4) / 7)
    assert row["ground_truth_shown"] is False
    assert all("s3cret" not in json.dumps(body) for _, _, body in server.seen)


def test_ground_truth_and_caps(data: Path) -> None:
    with judge_server(oracle) as server:
        judge = ("--method", "a2p", "--endpoint", server.url, "--model", "m", "--with-ground-truth")
        result = judged(data, *judge, "--json", "--max-requests", 3, "--max-error-rate", 1)
    assert result.exit_code == 0
    (row,) = table(result).values()
    assert len(server.seen) == 3 and row["failed"] == 6 and row["ground_truth_shown"] is True
    assert all("s3cret" in json.dumps(body) for _, _, body in server.seen)


def test_predictions_are_scored_as_given(data: Path, tmp_path: Path) -> None:
    given = ["2", "1 2 3", "Step 2", 3, "٢", None, 99]
    file = tmp_path / "p.jsonl"
    file.write_text("".join(
        json.dumps({"name": f"ww/{i}", "step": step, "agent": "Agent0"}) + "\n"
        for i, step in enumerate(given)))  # fmt: skip
    result = judged(data, "--predictions", file, "--method", "uniform", "--json")
    row = table(result)["predictions"]
    assert row["step"] == 2 / 8 and row["agent"] == 4 / 8
    assert row["unparsed"] == {"no_step": 2, "not_an_integer": 3, "out_of_range": 1}


def test_the_table_is_for_reading(data: Path) -> None:
    out = judged(data, "--table").stdout
    assert "error-rule" in out and "50.0 [22, 78]" in out and "is it" in out


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--method", "all-at-one"], "no method 'all-at-one'; the nearest is 'all-at-once'"),
        (["--method", "a2p"], "is a judge: give its --model"),
        (["--method", "a2p", "--model", "m", "--endpoint", "http://x", "--api-key-env", "NO_SUCH"],
         "NO_SUCH is not set"),
        (["--predictions", __file__], "Not valid JSON"),
    ],
)  # fmt: skip
def test_usage(data: Path, args: list[str], said: str) -> None:
    result = judged(data, *args)
    assert result.exit_code == 2 and said in result.stderr and not result.stdout


def test_without_labels_there_is_nothing_to_score(tmp_path: Path) -> None:
    record = {"messages": [{"role": "user", "content": "x"}], "tools": [{}]}
    (tmp_path / "a.jsonl").write_text(json.dumps(record))
    result = judged(tmp_path)
    assert result.exit_code == 2 and "no run has a labelled step" in result.stderr
