"""Golden G1: the published chunks, from the published responses. And ours beside them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.shared import needs_shared, thought_anchors
from tracelab.text.segment import reasoning_range, segment, thought_anchors_chunks

FOLDERS = thought_anchors()
FORMULA = re.compile(
    r"\\\[.*?\\\]|\\\(.*?\\\)|\$\$.*?\$\$|(?<!\$)\$(?!\$)[^$\n]+\$|\\boxed\{[^{}]*\}", re.DOTALL
)

pytestmark = needs_shared


def read(folder: Path) -> tuple[str, str, list[str]]:
    base = json.loads((folder / "base_solution.json").read_text(encoding="utf-8"))
    chunks = json.loads((folder / "chunks_labeled.json").read_text(encoding="utf-8"))
    return base["full_cot"], base["full_cot"][len(base["prompt"]) :], [c["chunk"] for c in chunks]


def squeeze(text: str) -> str:
    return " ".join(text.split())


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{p.parent.name[:3]}-{p.name}")
def test_chunks_as_published(folder: Path) -> None:
    full, response, published = read(folder)
    assert thought_anchors_chunks(full) == published
    start, end = reasoning_range(response)
    spans = segment(response[start:end], "thought-anchors")
    assert [squeeze(s.text) for s in spans] == [squeeze(chunk) for chunk in published]


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: f"{p.parent.name[:3]}-{p.name}")
def test_the_default_splits_no_formula(folder: Path) -> None:
    _, response, published = read(folder)
    start, end = reasoning_range(response)
    text = response[start:end]
    spans = segment(text)
    assert "".join(s.text for s in spans) == text
    cuts = {s.start for s in spans}
    for formula in FORMULA.finditer(text):
        assert cuts.isdisjoint(range(formula.start() + 1, formula.end())), formula[0]
    # Sentences, not paragraphs and not words: about as many as the published chunks.
    assert 0.6 < len(spans) / len(published) < 1.6
    assert all(len(segment(s.text)) == 1 for s in spans)
