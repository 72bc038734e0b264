"""Reference values: consistent with themselves, made in parts that a stopped run continues."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tracelab.testbed import MODEL_DIR, truth
from tracelab.testbed.reference import Reference

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").exists(), reason="the model is not trained yet"
)
SETTINGS = {"traces": 2, "rollouts": 20, "contexts": 2, "episodes": 4, "episode_rollouts": 4}
SETTINGS |= {"seed": 3}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(MODEL_DIR)


def test_a_traces_changes_of_value_add_up(reference: Reference) -> None:
    made = reference.trace("evaluation", 3, 0, 50)
    [trace], found = made["traces"], made["boundaries"]
    assert "".join(row["text"] for row in found) == trace["response"]
    final = float(trace["answer"] == trace["reference"])
    assert found[0]["value"] + sum(row["delta"] for row in found) == pytest.approx(final)
    for row in found:
        answers = json.loads(row["answers"])
        assert sum(answers.values()) == row["n"] == 50
        assert answers.get(trace["reference"], 0) / 50 == pytest.approx(row["value"])
        assert row["n_same_text"] + row["n_different_role"] <= 50
    assert made == reference.trace("evaluation", 3, 0, 50)


def test_needed_facts_matter_and_distractors_do_not(reference: Reference) -> None:
    needed, other = [], []
    for index in range(3):
        made = reference.context("development", 3, index)
        [context], effects = made["contexts"], made["context_effects"]
        for row in effects:
            assert sum(row["by_sentence"]) == pytest.approx(row["effect"], abs=1e-3)
            assert len(row["by_sentence"]) == len(context["sentence_roles"])
            if context["sentence_roles"][-2] == "conclude":
                {"needed": needed, "distractor": other}.get(row["removed"], []).append(
                    row["effect"]
                )
    assert min(map(abs, needed)) > max(map(abs, other))


def test_failed_episodes_are_re_executed_step_by_step(reference: Reference) -> None:
    rows: dict[str, list[dict]] = {"episodes": [], "steps": []}
    for index in range(4):
        for name, found in reference.episode("development", 3, index, 10).items():
            rows[name] += found
    assert rows["episodes"]
    for episode in rows["episodes"]:
        steps = [s for s in rows["steps"] if s["episode_id"] == episode["episode_id"]]
        assert [s["step"] for s in steps] == list(range(len(steps)))
        assert all(s["n"] >= 10 for s in steps)
        assert steps[0]["value"] + sum(s["delta"] for s in steps) == pytest.approx(0.0)
        assert episode["cause"] != "impossible" or episode["decisive_step"] is None


def test_parts_are_made_once_joined_and_not_mixed(tmp_path: Path) -> None:
    parts = truth.open_parts(tmp_path, SETTINGS)
    every = truth.jobs(SETTINGS)
    assert len({truth.part_path(parts, job) for job in every}) == len(every)
    truth.start_worker(MODEL_DIR, SETTINGS, parts)
    for job in every:
        truth.do(job)
    assert truth.run(MODEL_DIR, parts, SETTINGS, 1, 0.0) == 0  # nothing left to do, no process
    truth.write(tmp_path, parts, SETTINGS)
    traces, boundaries = truth.load("traces", tmp_path), truth.load("boundaries", tmp_path)
    assert set(traces["split"].to_pylist()) == {"development", "evaluation"}
    assert set(boundaries["trace_id"].to_pylist()) == set(traces["trace_id"].to_pylist())
    assert json.loads(traces.schema.metadata[b"tracelab"])["rollouts"] == 20
    with pytest.raises(SystemExit, match="rollouts"):
        truth.open_parts(tmp_path, SETTINGS | {"rollouts": 21})
