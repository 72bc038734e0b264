"""`run --dry-run` promises exact figures and writes nothing: both are held to."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import invoke, rows, write_config, write_jsonl
from tracelab.core.item import Item
from tracelab.engines.scripted import Script, ScriptedEngine
from tracelab.run.progress import RunProgress


@pytest.fixture
def config(tmp_path: Path, script: Script, home: Path) -> Path:
    source = write_jsonl(tmp_path / "t.jsonl", script, 3)
    return write_config(tmp_path / "c.toml", source, anchors="rollouts = 6")


def forecast(config: Path, *options: object) -> dict[str, Any]:
    result = invoke("run", config, "--dry-run", "--json", *options)
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(folder.rglob("*"))
    }  # fmt: skip


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Item]:
    """Every request that reaches the engine."""
    items: list[Item] = []
    generate = ScriptedEngine.generate

    def watched(self, given):  # type: ignore[no-untyped-def]
        items.extend(given)
        return generate(self, given)

    monkeypatch.setattr(ScriptedEngine, "generate", watched)
    return items


def agrees(found: dict[str, Any], asked: list[Item], session: dict[str, Any]) -> None:
    """What was predicted is what the engine was asked, and what the warehouse says it cost."""
    [stage] = found["stages"]
    assert stage["stage"] == "rollouts"
    assert stage["requests"] == len(asked)
    assert stage["rollouts"] == sum(i.replicates for i in asked) == session["observations"]
    prompt = sum(len(i.prefix_ids) * i.replicates for i in asked)
    assert stage["prompt_tokens"] == prompt == session["prompt_tokens"]
    low, high = stage["generated_tokens_min"], stage["generated_tokens_max"]
    assert low <= session["generated_tokens"] <= high
    assert high < 10 * low


def last_session() -> dict[str, Any]:
    return rows("from sessions order by started_at desc limit 1")[0]


@pytest.mark.parametrize("batch", [4, 128])
def test_the_forecast_comes_true(config: Path, asked: list[Item], batch: int) -> None:
    options = ["--set", f"runtime.batch_rollouts={batch}"]  # requests are cut to batches
    found = forecast(config, *options)
    assert found["base_traces_missing"] == 0
    assert found["seconds_min"] is None
    assert asked == []
    assert invoke("run", config, *options).exit_code == 0
    agrees(found, asked, last_session())
    after = forecast(config, *options)
    assert after["stages"] == [] and after["generated_tokens_max"] == 0
    assert after["tokens_per_second"] > 0


def test_the_forecast_of_what_is_left_comes_true(
    config: Path, asked: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(RunProgress, "stage", lambda *a: os.kill(os.getpid(), signal.SIGINT))
        invoke("run", config, "--set", "runtime.batch_rollouts=5")
    assert invoke("run", config, "--set", "anchors.rollouts=2").exit_code == 0
    asked.clear()
    found = forecast(config, "--set", "anchors.rollouts=9")
    assert invoke("run", config, "--set", "anchors.rollouts=9").exit_code == 0
    agrees(found, asked, last_session())


def test_fewer_rollouts_than_there_are_cost_nothing(config: Path) -> None:
    assert invoke("run", config).exit_code == 0
    found = invoke("run", config, "--dry-run", "--json", "--set", "anchors.rollouts=3")
    assert found.exit_code == 0
    assert "was started with rollouts = 6; it keeps what it has (asked for 3)" in found.stderr
    assert json.loads(found.stdout)["stages"] == []
    fresh = forecast(config, "--fresh", "--set", "anchors.rollouts=3")
    assert fresh["stages"][0]["rollouts"] > 0
    whole = forecast(config, "--fresh")
    assert whole["stages"][0]["requests"] > 0
    assert whole["stages"][0]["rollouts"] == 2 * fresh["stages"][0]["rollouts"]
    assert rows("select distinct replicates from items") == [{"replicates": 6}]


def test_it_writes_nothing(config: Path, tmp_path: Path, home: Path) -> None:
    for _ in range(2):
        before = tree(tmp_path)
        result = invoke("run", config, "--dry-run")
        assert result.exit_code == 0
        assert "nothing was written" in result.stderr
        assert tree(tmp_path) == before
        # Once without a home, once with a finished run in it.
        assert invoke("run", config).exit_code == 0


def test_it_refuses_what_the_run_would_refuse(config: Path) -> None:
    assert invoke("run", config).exit_code == 0
    for options in (["--dry-run"], []):
        refused = invoke("run", config, *options, "--set", "seed=3")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "seed (was 0, is 3)" in refused.stderr
    assert forecast(config, "--fresh", "--set", "seed=3")["stages"][0]["requests"] > 0
    for form in ("--csv", "--nl"):  # forms of results, which a forecast does not have
        assert invoke("run", config, "--dry-run", form).exit_code == 2


def test_a_model_of_sentences_that_is_not_there_is_told_before_anything_is_sampled(
    config: Path, asked: list[Item]
) -> None:
    (empty := config.parent / "no-model").mkdir()
    wrong = ["--set", f"anchors.similarity={empty}", "--set", "anchors.methods=['links']"]
    for options in (["--dry-run"], []):
        refused = invoke("run", config, *wrong, *options)
        assert refused.exit_code == 2, refused.output
        assert f"{empty}' cannot be loaded" in refused.stderr and "Traceback" not in refused.output
    assert not asked


def test_rejects_are_counted_not_costed(config: Path) -> None:
    source = config.parent / "t.jsonl"
    before = forecast(config)
    source.write_text(source.read_text() + '{"prompt": \x1b[31m\n')
    found = forecast(config)
    assert found["stages"] == before["stages"]
    assert [(r["file"], r["line"]) for r in found["rejects"]] == [(str(source), 4)]
    shown = invoke("run", config, "--dry-run")
    assert f"rejected: {source}:4: Not valid JSON" in shown.stderr
    assert "\x1b" not in shown.output


def test_the_bundled_demo_is_costed_by_name(home: Path) -> None:
    """Its base traces do not exist yet, and that is said."""
    found = forecast(Path("demo"))
    base, rollouts = found["stages"]
    assert base["requests"] == base["rollouts"] == found["base_traces_missing"] > 0
    assert base["prompt_tokens"] > 0
    assert rollouts["stage"].endswith("at most") and rollouts["generated_tokens_min"] == 0
    assert rollouts["generated_tokens_max"] > 0
    shown = invoke("run", "demo", "--dry-run")
    assert "base traces do not exist yet" in shown.stderr
    assert not home.exists()


def test_questions_are_costed_with_all_that_may_be_asked_about_their_answers(
    config: Path, tmp_path: Path
) -> None:
    source = tmp_path / "q.jsonl"
    lines = [{"id": f"q{i}", "prompt": f"Question {i}?", "reference": "7"} for i in range(3)]
    source.write_text("".join(json.dumps({**x, "rendering": "raw"}) + "\n" for x in lines))
    asked = ["--set", f"source={source}", "--set", "source_options.format=questions", "--fresh"]
    shown = invoke("run", config, "--dry-run", *asked)
    found = forecast(config, *asked)
    base, later = found["stages"]
    assert base["rollouts"] == 3 and later["rollouts"] > 0
    assert later["stage"] in shown.stdout and f"{later['generated_tokens_max']:,}" in shown.stdout
    assert invoke("run", config, *asked).exit_code == 0
    [spent] = rows("select generated_tokens as g, prompt_tokens as p, requests as r from run_costs")
    assert found["generated_tokens_min"] <= spent["g"] <= found["generated_tokens_max"]
    assert spent["p"] <= base["prompt_tokens"] + later["prompt_tokens"]
    assert spent["r"] <= base["rollouts"] + later["requests"]
