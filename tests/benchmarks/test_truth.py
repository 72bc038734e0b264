"""Reference values: consistent with themselves, made in parts that a stopped run continues."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.testbed import truth
from benchmarks.testbed.reference import Reference
from tracelab.testbed import MODEL_DIR

pytestmark = pytest.mark.skipif(
    not (MODEL_DIR / "model.safetensors").exists(), reason="the model is not trained yet"
)
SETTINGS = {"traces": 2, "rollouts": 20, "contexts": 2, "episodes": 4, "episode_rollouts": 4}
SETTINGS |= {"seed": 3}


@pytest.fixture(scope="module")
def reference() -> Reference:
    return Reference(MODEL_DIR)


@pytest.mark.long
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


@pytest.mark.long
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


def test_the_committed_tables_are_what_they_promise() -> None:
    """Enough of everything, from these weights, and small."""
    tables = {name: truth.load(name) for name in truth.TABLES}
    about = json.loads(tables["traces"].schema.metadata[b"tracelab"])
    weights = (MODEL_DIR / "model.safetensors").read_bytes()
    assert about["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert about["command"] and about["process_seconds"]
    splits = tables["traces"].column("split").to_pylist()
    assert min(splits.count("development"), splits.count("evaluation")) >= 30
    assert min(tables["boundaries"].column("n").to_pylist()) >= 2000
    assert tables["contexts"].num_rows >= 200
    single = [e for e in tables["episodes"].to_pylist() if e["decisive_step"] is not None]
    assert len(single) >= 200
    assert sum(f.stat().st_size for f in truth.OUT.glob("*.parquet")) < 3e6


def test_the_committed_values_say_what_was_planted() -> None:
    rows = truth.load("boundaries").to_pylist()
    # Where all rollouts agree there is no standard error to divide by.
    known = [r for r in rows if r["delta_se"] > 0]
    filler = [r["delta"] / r["delta_se"] for r in known if r["role"] == "filler"]
    wrong = [r["delta"] for r in rows if r["role"] == "plan_wrong"]
    assert len(filler) >= 30 and np.std(filler) == pytest.approx(1, abs=0.35)
    assert len(wrong) >= 10 and np.mean(wrong) < -0.2
    episodes = truth.load("episodes").to_pylist()
    single = [e for e in episodes if e["decisive_step"] is not None]
    assert np.mean([e["decisive_step"] == e["largest_fall"] for e in single]) > 0.95
    effects = truth.load("context_effects").to_pylist()
    size = {
        kind: np.mean([abs(e["effect"]) for e in effects if e["removed"] == kind])
        for kind in ("needed", "distractor")
    }
    assert size["needed"] > 50 * size["distractor"]
