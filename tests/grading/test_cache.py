"""First results stay: in memory, and in a run's journal for later sessions."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tracelab.grading.cache import MemoryOutcomes, OutcomeCache
from tracelab.store.grades import JournalOutcomes
from tracelab.store.journal import Journal


@pytest.fixture(params=["memory", "journal"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OutcomeCache]:
    if request.param == "memory":
        yield MemoryOutcomes()
        return
    with Journal(str(tmp_path), "run", flush_rows=2) as journal:
        yield JournalOutcomes(journal)


def test_first_one_stays(cache: OutcomeCache) -> None:
    assert cache.get("ab") is None
    assert cache.put("ab", {"x": 1}) == {"x": 1}
    assert cache.put("ab", {"x": 2}) == {"x": 1} == cache.get("ab")


def test_all_threads_agree(cache: OutcomeCache) -> None:
    with ThreadPoolExecutor(8) as threads:
        said = list(threads.map(lambda i: cache.put("cd", {"x": i})["x"], range(64)))
    assert len(set(said)) == 1


def test_a_later_session_reads_the_same(tmp_path: Path) -> None:
    with Journal(str(tmp_path), "run") as journal:
        JournalOutcomes(journal).put("ab", {"x": 1})
    with Journal(str(tmp_path), "run") as journal:
        later = JournalOutcomes(journal)
        assert later.put("ab", {"x": 3}) == {"x": 1} == later.get("ab")
        assert later.get("ef") is None
