"""The first result under a key stays, whoever asks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tracelab.grading.cache import OutcomeCache


@pytest.fixture(params=["disk", "memory"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> OutcomeCache:
    return OutcomeCache(tmp_path / "new" if request.param == "disk" else None)


def test_first_one_stays(cache: OutcomeCache) -> None:
    assert cache.get("ab") is None
    assert cache.put("ab", {"x": "\x00é"}) == {"x": "\x00é"}
    assert cache.put("ab", {"x": 2}) == {"x": "\x00é"} == cache.get("ab")


def test_all_threads_agree(cache: OutcomeCache) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda i: cache.put("ab", {"x": i})["x"], range(64)))
    assert len(set(found)) == 1


def test_another_process_reads_it_and_a_torn_file_is_replaced(tmp_path: Path) -> None:
    OutcomeCache(tmp_path).put("ab", {"x": 1})
    assert OutcomeCache(tmp_path).get("ab") == {"x": 1}
    (file,) = (p for p in tmp_path.rglob("*") if p.is_file())  # and no temporary one
    file.write_text('{"x"')
    assert OutcomeCache(tmp_path).get("ab") is None
    assert OutcomeCache(tmp_path).put("ab", {"x": 3}) == {"x": 3}
    assert OutcomeCache(tmp_path).get("ab") == {"x": 3}
