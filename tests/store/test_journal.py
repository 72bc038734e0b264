"""The journal: durable, exact, one writer, and forgiving of damage."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracelab.core.errors import TracelabError
from tracelab.core.item import Observation
from tracelab.store.files import Store
from tracelab.store.journal import Journal, deduplicated

observations = st.builds(
    Observation,
    key=st.text("abcdef0123456789", min_size=1, max_size=4),
    replicate=st.integers(0, 3),
    token_ids=st.lists(st.integers(0, 2**31 - 1), max_size=5).map(tuple),
    text=st.text(st.characters(codec=None), max_size=20),
    finish_reason=st.sampled_from(["stop", "length"]),
    token_logprobs=st.none() | st.lists(st.just(-0.5), max_size=4).map(tuple),
    prefix_tokens=st.integers(0, 99),
    cached_tokens=st.none() | st.integers(0, 99),
)


@given(st.lists(observations, max_size=12))
def test_what_goes_in_comes_out(rows: list[Observation]) -> None:
    root = f"memory://{uuid.uuid4().hex}"
    with Journal(root, "r", flush_rows=5) as journal:
        journal.append(rows)
    with Journal(root, "r") as journal:
        back = [o for part in journal.observations() for o in part]
    assert sorted(back, key=repr) == sorted(rows, key=repr)


def test_nothing_is_durable_before_a_flush_and_everything_after(tmp_path: Path) -> None:
    journal = Journal(str(tmp_path), "r", flush_rows=100, flush_seconds=1e9)
    journal.append([Observation("k", 0)])
    assert list(journal.observations()) == []
    journal.flush()
    assert [o.key for part in journal.observations() for o in part] == ["k"]
    journal.close()


def test_a_damaged_part_is_set_aside_and_the_rest_is_read(tmp_path: Path) -> None:
    with Journal(str(tmp_path), "r", flush_rows=1) as journal:
        for r in range(3):
            journal.append([Observation("k", r)])
        parts = sorted((tmp_path / "r" / "observations").glob("*.parquet"))
        whole = parts[1].read_bytes()
        parts[1].write_bytes(whole[: len(whole) // 2])
        kept = {o.replicate for part in journal.observations() for o in part}
        assert len(kept) == 2
        assert parts[1].with_name(parts[1].name + ".damaged").exists()


def test_a_success_beats_a_failure_in_any_order() -> None:
    good = Observation("k", 0, text="x")
    bad = Observation("k", 0, finish_reason="error", error="engine: lost")
    other = Observation("k", 1, finish_reason="error", error="engine: lost")
    for parts in ([[bad], [good, other]], [[good], [other], [bad]]):
        found = [o for part in deduplicated(parts) for o in part]
        assert sorted(found, key=lambda o: o.replicate) == [good, other]
    again = [o for part in deduplicated([[bad], [other]], keep_errors=False) for o in part]
    assert again == []


def test_two_processes_cannot_write_one_journal(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom tracelab.store.journal import Journal\n"
        f"j = Journal({str(tmp_path)!r}, 'r')\nprint('held', flush=True)\nsys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(TracelabError, match=f"another tracelab process .pid {holder.pid}"):
        Journal(str(tmp_path), "r")
    holder.kill()
    holder.wait()
    Journal(str(tmp_path), "r").close()


def test_a_failed_write_leaves_the_old_blob_and_no_litter(tmp_path: Path, monkeypatch) -> None:
    store = Store(str(tmp_path))
    store.write("a/b", b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write("a/b", b"new")
    assert store.read("a/b") == b"old"
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b"]


@given(st.lists(observations, max_size=30), st.data())
def test_what_is_wanted_comes_back_and_nothing_else(
    rows: list[Observation], data: st.DataObject
) -> None:
    wanted = data.draw(
        st.dictionaries(
            st.text("abcdef0123456789", min_size=1, max_size=4)
            | st.sampled_from([o.key for o in rows] or ["x"]),
            st.builds(lambda a, n: range(a, a + n), st.integers(0, 3), st.integers(0, 3)),
            max_size=6,
        )
    )
    expected = [o for o in rows if o.replicate in wanted.get(o.key, ())]
    root = f"memory://{uuid.uuid4().hex}"
    with Journal(root, "r", flush_rows=4, flush_seconds=1e9) as journal:
        journal.append(rows[:17])
        journal.append(rows[17:])
        journal.flush()
        own = [o for part in journal.recorded(wanted) for o in part]
    with Journal(root, "r") as journal:
        back = [o for part in journal.recorded(wanted) for o in part]
    assert sorted(own, key=repr) == sorted(back, key=repr) == sorted(expected, key=repr)


def test_a_round_reads_only_the_parts_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds that ask for what is new read nothing; resuming looks into each part once."""
    read: list[str] = []
    whole = Store.read

    def reading(self: Store, name: str) -> bytes | None:
        if name.endswith(".parquet"):
            read.append(name)
        return whole(self, name)

    monkeypatch.setattr(Store, "read", reading)
    with Journal(str(tmp_path), "r", flush_rows=1) as journal:
        for r in range(50):
            assert list(journal.recorded({"k": range(r, r + 1)})) == []
            journal.append([Observation("k", r)])
        assert read == []
        assert [[o.replicate for o in p] for p in journal.recorded({"k": range(3, 4)})] == [[3]]
        assert len(read) == 1
    read.clear()
    with Journal(str(tmp_path), "r") as journal:
        for r in range(50):
            [part] = journal.recorded({"k": range(r, r + 1)})
            assert [o.replicate for o in part] == [r]
    assert len(read) == 100, "each part once for its keys, and once for what it holds"


def test_a_damaged_part_is_set_aside_when_it_is_wanted(tmp_path: Path) -> None:
    with Journal(str(tmp_path), "r", flush_rows=1) as journal:
        for r in range(3):
            journal.append([Observation("k", r)])
        parts = sorted((tmp_path / "r" / "observations").glob("*.parquet"))
        parts[0].write_bytes(b"PAR1")
        parts[1].unlink()
        kept = [o.replicate for p in journal.recorded({"k": range(3)}) for o in p]
        assert len(kept) == 1
        assert parts[0].with_name(parts[0].name + ".damaged").exists()
    parts[2].write_bytes(b"")
    with Journal(str(tmp_path), "r") as journal:
        assert list(journal.recorded({"k": range(3)})) == []
        assert parts[2].with_name(parts[2].name + ".damaged").exists()
