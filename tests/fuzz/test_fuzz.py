"""Fuzzing as a habit: a short run with a fixed seed; `make fuzz` goes on with others."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from tests.fuzz import loop
from tests.fuzz.loop import fuzz
from tests.fuzz.mutate import mutated, seeds
from tests.fuzz.targets import TARGETS
from tests.sources.test_corpus import CORPUS

SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))


@pytest.mark.long
def test_nothing_that_reads_what_others_wrote_raises(tmp_path: Path) -> None:
    found = fuzz(SECONDS, seed=0, keep=tmp_path)
    assert not found.crashes, found.crashes[0][2]
    assert found.tried.total() > 100


@pytest.mark.parametrize("name", ["decoded", "replied", "cut", "graded"])
def test_files_of_the_corpus_crash_no_text_function(name: str) -> None:
    """The importers read them in tests/sources/test_corpus.py."""
    target, _ = TARGETS[name]
    for path in sorted(CORPUS.iterdir()):
        target(path.read_bytes())


def test_a_crash_becomes_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(data: bytes) -> None:
        assert b'"' not in data

    monkeypatch.setattr(loop, "TARGETS", {"breaks": (breaks, ".json")})
    found = fuzz(60, seed=1, keep=tmp_path)
    [(name, file, how)] = found.crashes
    assert name == "breaks" and file.parent == tmp_path and b'"' in file.read_bytes()
    assert "AssertionError" in how


def test_a_seed_is_a_sequence_of_inputs() -> None:
    pool = seeds()
    one, other = ([mutated(random.Random(7), pool) for _ in range(20)] for _ in "ab")
    assert one == other
