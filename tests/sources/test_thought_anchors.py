"""Published folders become raw traces with their figures; the known corruption becomes nulls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.shared import needs_shared, shared
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read

DATA = shared("data/thought_anchors")

BASE = {
    "prompt": "Solve 2 + 2.\n<think>\n",
    "solution": "It is 4.\n</think>\n\\boxed{4}",
    "full_cot": "Solve 2 + 2.\n<think>\nIt is 4.\n</think>\n\\boxed{4}",
    "answer": "4",
    "is_correct": True,
}


def chunk(index: int, accuracy: float) -> dict[str, Any]:
    figures = ("resampling_importance_accuracy", "counterfactual_importance_kl")
    return {
        "chunk": f"Chunk {index}.",
        "chunk_idx": index,
        "function_tags": ["fact_retrieval"],
        "accuracy": accuracy,
        "forced_importance_kl": 0.5,
        "overdeterminedness": 0.25,
        **dict.fromkeys(figures, 0.125),
    }


def make(folder: Path, **files: Any) -> Path:
    folder.mkdir(parents=True)
    content = {
        "base_solution": BASE,
        "problem": {"gt_answer": "4", "level": "Level 5"},
        "chunks_labeled": [chunk(0, 0.5), chunk(1, 0.5), chunk(2, 0.0)],
        "chunks_resampled": {"0": ["a"], "1": ["b"], "2": []},
        **files,
    }
    for name, value in content.items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
    return folder


def test_a_problem_folder(tmp_path: Path) -> None:
    folder = make(tmp_path / "some-model" / "correct_base_solution" / "problem_7")
    for path in (folder, folder.parent, tmp_path):
        (trace,) = read(path)
        assert isinstance(trace, Trace)
        assert trace.rendering == "raw"
        assert trace.prompt[0].text == BASE["prompt"]
        assert trace.response == BASE["solution"]
        assert (trace.name, trace.model) == ("correct/problem_7", "some-model")
        assert (trace.answer, trace.reference, trace.success) == ("4", "4", True)
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))) == trace


def test_figures_without_rollouts_become_null(tmp_path: Path) -> None:
    (trace,) = read(make(tmp_path / "problem_7"))
    assert isinstance(trace, Trace)
    extra = trace.extra["thought_anchors"]
    first, before, empty = extra["chunks"]
    assert first == chunk(0, 0.5)
    nulls = dict.fromkeys(("resampling_importance_accuracy", "counterfactual_importance_kl"))
    assert before == {**chunk(1, 0.5), **nulls}
    assert empty == {**chunk(2, 0.0), **nulls, "accuracy": None, "overdeterminedness": None}
    assert extra["notes"][0].startswith("1 of 3 chunks have no rollouts (the first is chunk 2)")


def test_figures_are_optional(tmp_path: Path) -> None:
    (bare,) = read(make(tmp_path / "a", chunks_labeled=None))
    (unsure,) = read(make(tmp_path / "b", chunks_resampled=None))
    assert isinstance(bare, Trace) and isinstance(unsure, Trace)
    assert bare.extra["thought_anchors"]["chunks"] is None
    assert unsure.extra["thought_anchors"]["chunks"][2] == chunk(2, 0.0)
    assert unsure.extra["thought_anchors"]["notes"]


@pytest.mark.parametrize(
    ("files", "at", "line", "reason", "field"),
    [
        ({"base_solution": "{\n'x"}, "base_solution", 2, "Not valid JSON", None),
        ({"base_solution": "[]"}, "base_solution", 0, "is not a JSON object.", None),
        ({"base_solution": '{"x": NaN}'}, "base_solution", 0, "NaN is not JSON", None),
        ({"base_solution": "[" * 10**5}, "base_solution", 0, "Nested more than", None),
        ({"base_solution": '["\\ud800"]'}, "base_solution", 0, "lone surrogate", None),
        ({"base_solution": {**BASE, "prompt": 1}}, "base_solution", 0, "not a string", "prompt"),
        ({"base_solution": {**BASE, "prompt": " "}}, "base_solution", 0, "is empty", "prompt"),
        ({"base_solution": {**BASE, "full_cot": "x"}}, "base_solution", 0, "start", "full_cot"),
        (
            {"base_solution": {**BASE, "full_cot": BASE["prompt"]}},
            "base_solution",
            0,
            "no response",
            "full_cot",
        ),
        ({"problem": None}, "problem", 0, "problem.json is missing.", None),
        ({"problem": {"gt_answer": 4}}, "problem", 0, "is not a string", "gt_answer"),
        ({"chunks_labeled": [1]}, "chunks_labeled", 0, "not a list of objects", None),
        ({"chunks_resampled": []}, "chunks_resampled", 0, "is not a JSON object", None),
    ],
)
def test_bad_folders(
    tmp_path: Path, files: dict[str, Any], at: str, line: int, reason: str, field: str | None
) -> None:
    bad = make(tmp_path / "problem_1", **files)
    make(tmp_path / "problem_2")
    reject, trace = read(tmp_path)
    assert isinstance(reject, Reject) and isinstance(trace, Trace)
    assert (reject.file, reject.line) == (str(bad / f"{at}.json"), line)
    assert reason in reject.reason
    assert reject.field == field


def test_the_same_problem_twice(tmp_path: Path) -> None:
    make(tmp_path / "a")
    make(tmp_path / "b")
    trace, reject = read(tmp_path)
    assert isinstance(trace, Trace) and isinstance(reject, Reject)
    assert "Duplicate of" in reject.reason


@needs_shared
def test_the_published_data() -> None:
    traces = [t for t in read(DATA) if isinstance(t, Trace)]
    assert len(traces) == 20
    assert {t.model for t in traces} == {"deepseek-r1-distill-llama-8b"}
    assert len({t.name for t in traces}) == len({t.trace_id for t in traces}) == 20
    figures = {t.name: t.extra["thought_anchors"] for t in traces}
    corrupt = {}
    for name, figure in figures.items():
        empty = [c for c in figure["chunks"] if c["accuracy"] is None]
        assert bool(empty) == bool(figure["notes"])
        if empty:
            corrupt[name] = len(empty)
        for chunk, after in zip(figure["chunks"], figure["chunks"][1:], strict=False):
            change = chunk["resampling_importance_accuracy"]
            if chunk["accuracy"] is None or after["accuracy"] is None:
                assert change is None
            else:
                assert change == pytest.approx(after["accuracy"] - chunk["accuracy"], abs=1e-12)
    assert corrupt == {"correct/problem_6596": 115, "incorrect/problem_4164": 162}


@needs_shared
def test_one_published_folder_is_the_same_trace_as_in_the_tree() -> None:
    everything = {t.name: t for t in read(DATA) if isinstance(t, Trace)}
    folder = DATA / "deepseek-r1-distill-llama-8b" / "correct_base_solution" / "problem_330"
    assert list(read(folder, "thought-anchors")) == [everything["correct/problem_330"]]
