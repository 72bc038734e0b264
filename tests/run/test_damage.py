"""Damage to a journal: no bit changes silently, nothing ends in a traceback, and a run mends."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.helpers import everything, invoke, rows, write_config, write_jsonl
from tests.shared import SHARED, needs_shared
from tracelab.core.errors import DamagedError
from tracelab.core.item import Observation
from tracelab.engines.scripted import Script
from tracelab.run.inputs import entries
from tracelab.run.record import read_record, session_row
from tracelab.store.journal import Journal, listed
from tracelab.store.sealed import opened

FLIPS = 2400


@pytest.fixture
def config(tmp_path: Path, script: Script, home: Path) -> Path:
    """Two scripted traces, a run of each of two names."""
    source = write_jsonl(tmp_path / "t.jsonl", script, 2)
    return write_config(tmp_path / "c.toml", source, anchors="rollouts = 4")


def run(config: Path, *options: object, code: int = 0) -> str:
    result = invoke("run", config, *options)
    assert result.exit_code == code, result.stderr
    return result.stderr


def files(journal: Path) -> list[Path]:
    """Everything a journal consists of."""
    found = [p for p in sorted(journal.rglob("*")) if p.is_file() and p.name != "lock"]
    assert {p.suffix for p in found} == {".json", ".jsonl", ".parquet"}
    return found


def part(home: Path, run_id: str = "study") -> Path:
    """The largest part of a run."""
    parts = (home / "runs" / run_id / "observations").glob("*.parquet")
    return max(parts, key=lambda p: p.stat().st_size)


def flip(path: Path, at: int | None = None, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2 if at is None else at] ^= 1 << bit
    path.write_bytes(data)


def read(root: Path, run_id: str) -> tuple[list[Any], list[str]]:
    """All that a journal says, through the doors that everybody uses; and what it complains of."""
    said: list[str] = []
    found: list[Any] = []
    with Journal(str(root), run_id, warn=said.append) as journal:
        journal.verify(deep=True)
        for get in (
            lambda: sorted((o for p in journal.observations() for o in p), key=repr),
            lambda: read_record(journal),
            lambda: list(entries(journal)),
            lambda: [session_row(s) for _, s in journal.sessions()],
            lambda: listed(journal),
        ):
            try:
                found.append(get())
            except DamagedError as e:
                said.append(str(e))
                found.append(None)
        said += journal.lost
        journal.lost.clear()
        journal._unread = True  # so that closing writes nothing
    return found, said


def flips(journal: Path, count: int) -> Iterator[tuple[Path, int, int]]:
    """Single bits, as many of each file as of any other, spread over all of it."""
    draw = random.Random(7)
    everyone = files(journal)
    for path in everyone:
        size, n = path.stat().st_size, count // len(everyone) + 1
        for k in range(n):
            lo, hi = size * k // n, max(size * (k + 1) // n, size * k // n + 1)
            yield path, draw.randrange(lo, min(hi, size)), draw.randrange(8)


@pytest.mark.parametrize("count", [150, pytest.param(FLIPS, marks=pytest.mark.long)])
def test_no_bit_of_a_journal_changes_silently(config: Path, home: Path, count: int) -> None:
    run(config)
    journal = home / "runs" / "study"
    whole, complaints = read(home / "runs", "study")
    assert not complaints and all(whole)
    done = 0
    for path, at, bit in flips(journal, count):
        kept = path.read_bytes()
        flip(path, at, bit)
        found, said = read(home / "runs", "study")
        assert said or found == whole, f"{path.name}: byte {at}, bit {bit}"
        assert all("\n" not in s for s in said)
        path.with_name(path.name + ".damaged").unlink(missing_ok=True)
        path.write_bytes(kept)
        done += 1
    assert done >= count
    assert read(home / "runs", "study") == (whole, [])


def test_what_has_no_checksum_is_read_and_said_and_its_damage_is_no_traceback(
    config: Path, home: Path
) -> None:
    """As an earlier tracelab wrote it."""
    run(config)
    journal = home / "runs" / "study"
    whole, _ = read(home / "runs", "study")
    for p in files(journal):
        if p.suffix == ".json":
            p.write_text(json.dumps(opened(p.read_bytes())[0], indent=1))
        elif p.suffix == ".jsonl":
            p.write_bytes(b"".join(p.read_bytes().splitlines(keepends=True)[1:-1]))
        else:
            p.rename(p.with_name(p.name.rpartition("-")[0] + ".parquet"))
    (journal / "parts.json").unlink()
    found, said = read(home / "runs", "study")
    assert found[:4] == whole[:4]
    assert [s for s in said if "cannot be verified" in s] == said != []
    for path, at, bit in flips(journal, 200):
        kept = path.read_bytes()
        flip(path, at, bit)
        assert all("\n" not in s for s in read(home / "runs", "study")[1])
        path.with_name(path.name + ".damaged").unlink(missing_ok=True)
        path.write_bytes(kept)


@needs_shared
def test_parts_that_a_bad_disk_made(home: Path) -> None:
    """Found by flipping bits of parts that had no digest; some raised, some were other rows."""
    observations = home / "runs" / "study" / "observations"
    observations.mkdir(parents=True)
    found = sorted((SHARED / "data" / "attacks").glob("part_*.parquet"))
    assert found
    for path in found:
        shutil.copy(path, observations / f"part-{'0' * 32}.parquet")
        with Journal(str(home.joinpath("runs")), "study") as journal:
            list(journal.observations())
        shutil.copy(path, observations / f"part-{'0' * 32}-{'0' * 32}.parquet")
        with Journal(str(home.joinpath("runs")), "study", warn=lambda _: None) as journal:
            journal.verify()
            assert f"observations/part-{'0' * 32}-{'0' * 32}.parquet" in journal.lost


def checked(*args: object, code: int = 0) -> str:
    result = invoke("check", "--journal", *args)
    assert result.exit_code == code, result.stderr
    return " ".join(result.stderr.split())


def test_check_says_which_files_of_a_journal_are_damaged(config: Path, home: Path) -> None:
    run(config)
    assert "1 journals, 0 things wrong" in checked()
    journal = home / "runs" / "study"
    for path in files(journal):
        kept = path.read_bytes()
        flip(path)
        name = path.relative_to(journal)
        assert f"study: {name}" in checked(code=1)
        assert f"{name}" in checked(journal, code=1)
        assert path.exists() and not list(journal.rglob("*.damaged")), "it changes nothing"
        path.write_bytes(kept)
    old = part(home)
    kept = old.read_bytes()
    old.unlink()
    assert "observations) is gone" in checked("study", code=1)
    old.with_name(old.name.rpartition("-")[0] + ".parquet").write_bytes(kept)
    assert "written before there were digests" in checked("study", code=1)
    assert invoke("check", "--journal", "nosuch").exit_code == 2
    assert invoke("check", "study").exit_code == 2


def status() -> dict[str, str]:
    return {r["run_id"]: r["status"] for r in rows("select run_id, status from runs")}


def test_a_damaged_part_is_owed_again_and_the_run_is_whole_after(config: Path, home: Path) -> None:
    run(config)
    before = everything()
    [n] = rows("select count(*) as n from rollouts")
    flip(part(home))
    refused = invoke("rebuild")
    assert refused.exit_code == 1
    said = " ".join(refused.stderr.split())
    assert "observations) is damaged" in said and "was not loaded" in said
    assert status() == {"study": "interrupted"}
    again = invoke("rebuild", "study")
    assert again.exit_code == 1 and "is not whole" in again.stderr
    (home / "tracelab.duckdb").unlink()
    assert invoke("rebuild").exit_code == 1
    assert status() == {"study": "interrupted"}
    assert "the run lacks 1 damaged or lost file" in checked(code=1)
    assert "starting scripted" in run(config)
    assert "0 things wrong" in checked()
    assert status() == {"study": "complete"}
    after = everything()
    for table in set(before) - {"runs", "sessions"}:
        assert after[table] == before[table], table
    assert invoke("check").exit_code == 0
    assert invoke("rebuild").exit_code == 0
    assert rows("select count(*) as n from rollouts") == [n]


def test_a_part_that_is_gone_is_owed_again(config: Path, home: Path) -> None:
    run(config)
    part(home).unlink()
    refused = invoke("rebuild")
    assert refused.exit_code == 1 and "is gone" in refused.stderr
    assert status() == {"study": "interrupted"}
    assert "starting scripted" in run(config)
    assert invoke("rebuild").exit_code == 0
    assert status() == {"study": "complete"}


def test_scores_of_other_observations_do_not_stand_beside_old_rollouts(
    config: Path, home: Path
) -> None:
    """What is asked again may be answered otherwise, and the database then has only that."""
    run(config)
    old = part(home)
    table = pq.read_table(old)
    old.unlink()
    (home / "runs" / "study" / "parts.json").unlink()
    rest = table.slice(1).to_pylist()
    with Journal(str(home / "runs"), "study") as journal:
        fields = [f for f in table.column_names if f not in ("text", "token_ids")]
        journal.append([
            Observation(**{f: r[f] for f in fields}, text="other", token_ids=tuple(r["token_ids"]))
            for r in rest
        ])  # fmt: skip
    before = everything()
    assert invoke("rebuild").exit_code == 1
    after = everything()
    assert {t: after[t] for t in after if t != "runs"} == {
        t: before[t] for t in before if t != "runs"
    }
    assert status() == {"study": "interrupted"}
    run(config)
    texts = {r["text"] for r in rows("select text from rollouts")}
    assert "other" in texts and len(texts) == 2


def test_one_damaged_run_does_not_stop_the_others(config: Path, home: Path) -> None:
    run(config)
    whole = everything()
    for k, name in enumerate(("run.json", "cases.jsonl", "a session", "nothing")):
        run(config, "--set", f"name=a{k}")
        if name == "a session":
            [path] = (home / "runs" / f"a{k}" / "sessions").iterdir()
        else:
            path = home / "runs" / f"a{k}" / name
        if name != "nothing":
            path.write_bytes(b"\xff{[")
    (home / "tracelab.duckdb").unlink()
    result = invoke("rebuild")
    assert result.exit_code == 1
    said = result.stderr
    assert "3 of 5 runs could not be loaded whole: a0, a1, a2" in " ".join(said.split())
    assert status() == {
        "study": "complete", "a1": "interrupted", "a2": "complete", "a3": "complete"
    }  # fmt: skip
    assert [r for r in everything()["scores"] if "study" in r] == whole["scores"]


def test_damaged_cases_are_made_again_from_the_source(config: Path, home: Path) -> None:
    run(config)
    before = everything()
    flip(home / "runs" / "study" / "cases.jsonl")
    refused = invoke("rebuild", "study")
    assert refused.exit_code == 1 and "cases.jsonl is damaged" in refused.stderr
    said = run(config)
    assert "cases.jsonl" in said and "starting" not in said
    after = everything()
    assert {t: v for t, v in after.items() if t != "runs"} == {
        t: v for t, v in before.items() if t != "runs"
    }
    assert status() == {"study": "complete"}
    assert invoke("rebuild").exit_code == 0


def test_a_damaged_record_is_one_sentence_that_says_what_to_do(config: Path, home: Path) -> None:
    run(config)
    before = everything()
    record = home / "runs" / "study" / "run.json"
    whole = record.read_bytes()
    for damage in (b"", b"\xff", whole[:-9], b"[]", b"{}", whole.replace(b"testbed", b"tesTbed")):
        record.write_bytes(damage or b" ")
        for args in (("run", config), ("rebuild", "study"), ("run", config, "--dry-run")):
            if damage == whole:
                continue
            refused = invoke(*args)
            assert refused.exit_code == 1, (damage[:20], args)
            assert refused.stderr.count("run.json is damaged") == 1
        record.write_bytes(whole)
    flip(record)
    refused = invoke("run", config)
    assert "move it away" in " ".join(refused.stderr.split())
    record.unlink()
    run(config)
    after = everything()
    assert {t: v for t, v in after.items() if t != "runs"} == {
        t: v for t, v in before.items() if t != "runs"
    }
    flip(record)
    run(config, "--fresh")


def test_a_damaged_session_costs_its_own_record_only(config: Path, home: Path) -> None:
    run(config)
    [session] = (home / "runs" / "study" / "sessions").iterdir()
    flip(session)
    said = invoke("rebuild", "study")
    assert said.exit_code == 1 and "was loaded, but not what is said in sessions/" in said.stderr
    assert status() == {"study": "complete"}
    assert invoke("rebuild", "study").exit_code == 0


def test_a_part_of_nulls_is_not_taken_for_one(tmp_path: Path) -> None:
    with Journal(str(tmp_path), "r", flush_rows=1) as journal:
        journal.append([Observation("k", 0)])
    [path] = (tmp_path / "r" / "observations").iterdir()
    table = pq.read_table(path)
    path.unlink()
    nulls = table.set_column(0, "key", pa.array([None], pa.string()))
    pq.write_table(nulls, path.with_name(f"part-{'1' * 32}.parquet"))
    with Journal(str(tmp_path), "r", warn=lambda _: None) as journal:
        assert list(journal.recorded({"k": range(1)})) == []
        assert journal.lost == [f"observations/part-{'1' * 32}.parquet"]
