"""Bad input: one clear sentence, the right exit code, no traceback, and nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import invoke, rows, write_config, write_jsonl
from tracelab.engines.scripted import Script
from tracelab.testbed import MODEL_DIR

Lines = list[bytes]


@pytest.fixture
def lines(tmp_path: Path, script: Script, home: Path) -> Lines:
    """Five good records."""
    return write_jsonl(tmp_path / "good.jsonl", script, 5).read_bytes().splitlines()


def record(**fields: object) -> bytes:
    return json.dumps(fields).encode()


def study(folder: Path, lines: Lines, *options: str) -> tuple[int, str]:
    """`tracelab run` on some records; the exit code and what it said."""
    source = folder / "my.jsonl"
    source.write_bytes(b"".join(line + b"\n" for line in lines))
    config = write_config(folder / "c.toml", source, anchors="rollouts = 4")
    result = invoke("run", config, *options)
    assert result.stdout == ""
    return result.exit_code, result.stderr


# -- records ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x: x[: len(x) // 2], "Not valid JSON"),
        (lambda x: x.replace(b"care", b"\xff\xfe"), "Not valid UTF-8"),
        (lambda x: record(id="x", prompt="q", response="  "), "`response` is empty"),
        (lambda x: record(id="x", prompt="q"), "`response` is missing"),
        (lambda x: record(id="x", prompt=7, response="a"), "`prompt` must be a string"),
        (lambda x: b"[1]", "a list, not a JSON object"),
    ],
    ids=["truncated", "not-utf8", "empty", "missing", "type", "list"],
)
def test_one_bad_line_of_five(tmp_path: Path, lines: Lines, change, says: str) -> None:
    """The other four are studied; the bad one is a row of `rejects` with file, line and reason."""
    lines[2] = change(lines[2] + b" care")
    code, said = study(tmp_path, lines)
    assert code == 3  # 20 % is more than the 5 % allowed
    assert f"rejected: {tmp_path}/my.jsonl:3: " in said
    assert says in said
    assert "20.0% errors (0 failed, 1 inputs rejected), more than --max-error-rate 5.0%" in said
    [reject] = rows("from rejects")
    assert (reject["file"], reject["line"]) == (f"{tmp_path}/my.jsonl", 3)
    assert says in reject["reason"]
    assert rows("select name from traces order by all") == [{"name": f"t{i}"} for i in (0, 1, 3, 4)]
    assert invoke("check").exit_code == 0
    # Allowed more, the same command has nothing left to do and says done.
    code, said = study(tmp_path, lines, "--max-error-rate", "0.5")
    assert (code, "starting scripted" in said) == (0, False)


def test_a_bad_line_that_is_put_right(tmp_path: Path, lines: Lines) -> None:
    good = lines[2]
    lines[2] = good[:20]
    assert study(tmp_path, lines)[0] == 3
    lines[2] = good
    assert study(tmp_path, lines)[0] == 0
    assert rows("from rejects") == []
    assert rows("select status from runs") == [{"status": "complete"}]
    assert len(rows("from traces")) == 5
    assert invoke("check").exit_code == 0


def test_a_line_of_ten_megabytes(tmp_path: Path, lines: Lines) -> None:
    whole = json.loads(lines[1])["response"]
    lines[1] = record(id="big", prompt="Go on. " * 1_500_000, response=whole, reference="7")
    assert len(lines[1]) > 10_000_000
    code, said = study(tmp_path, lines)
    assert code == 3
    assert f"{tmp_path}/my.jsonl:2: big: needs" in said
    assert "context holds 4096" in said
    assert len(rows("from traces")) == 4


def test_what_is_accepted(tmp_path: Path, lines: Lines) -> None:
    whole = json.loads(lines[0])["response"]
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": whole}]
    given = [
        record(id="cut", prompt="a", response=whole[: len(whole) // 2], reference="7"),
        record(id="messages", messages=messages, reference="7"),
        record(id="own", prompt="b", response=whole),
    ]
    assert study(tmp_path, given)[0] == 0
    found = rows(
        "select name, n_units, extra ->> 'reward_kind' as kind, answer is null as cut "
        "from traces order by name"
    )
    assert [r["kind"] for r in found] == ["reference", "reference", "own_answer"]
    assert [r["cut"] for r in found] == [True, False, False]
    assert found[0]["n_units"] < found[1]["n_units"]
    missing = "status <> 'ok' and method = 'resample' and metric in ('value', 'delta_value')"
    assert rows(
        f"select distinct metric, extra ->> 'reason' as why from scores where {missing}"
    ) in ([], [{"metric": "delta_value", "why": "no rollout wrote anything else"}])


def test_what_cannot_be_graded_or_does_not_fit(tmp_path: Path, lines: Lines) -> None:
    whole = json.loads(lines[0])["response"]
    bad = [
        record(id="neither", prompt="a", response=" This is a small sum."),
        record(id="long", prompt="q" * 5000, response=whole, reference="7"),
    ]
    code, said = study(tmp_path, [*lines, *bad], "--max-error-rate", "0.9")
    assert code == 0
    assert "my.jsonl:6: neither: has no reference, and no final answer" in said
    assert "my.jsonl:7: long: needs" in said
    assert "(5001 of them prompt), but the model's context holds 4096" in said
    assert [r["line"] for r in rows("select line from rejects order by line")] == [6, 7]
    code, said = study(tmp_path, bad, "--set", "name=none")
    assert code == 2
    assert "nothing can be studied (2 rejected); the first: " in said
    assert "my.jsonl:1: neither" in said


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b'{"id": \n', "nothing can be studied (1 rejected); the first: "),
        (b"[1, 2]", "JSON array"),
        (b"\x00\x01", "no format that tracelab reads"),
        (None, "no such file or folder"),
    ],
)
def test_a_file_without_anything_usable(
    tmp_path: Path, home: Path, content: bytes | None, says: str
) -> None:
    source = tmp_path / ("my.txt" if content and content[:1] in b"[\x00" else "my.jsonl")
    if content is not None:
        source.write_bytes(content)
    config = write_config(tmp_path / "c.toml", source)
    for options in ([], ["--dry-run"]):
        result = invoke("run", config, *options)
        assert result.exit_code == 2
        assert f"tracelab: {source}" in result.stderr
        assert says in result.stderr
        assert len(result.stderr.splitlines()) == 1


# -- models -------------------------------------------------------------------------------------


def spoiled(folder: Path, how: str) -> Path:
    """A model directory with something wrong."""
    model = folder / "model"
    if how == "missing":
        return model
    shutil.copytree(MODEL_DIR, model)
    config = model / "config.json"
    if how == "encoder":
        config.write_text('{"architectures": ["BertModel"], "model_type": "bert"}')
    elif how == "no-config":
        config.unlink()
    elif how == "bad-config":
        config.write_text("{")
    elif how == "no-weights":
        (model / "model.safetensors").unlink()
    elif how == "corrupt":
        weights = (model / "model.safetensors").read_bytes()
        (model / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    elif how == "no-tokenizer":
        (model / "tokenizer.json").unlink()
        (model / "tokenizer_config.json").unlink()
    return model


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("missing", "no such directory"),
        ("encoder", "not a causal language model (config.json architectures: BertModel)"),
        ("no-config", "no config.json"),
        ("bad-config", "config.json cannot be read"),
        ("no-weights", "no weights"),
        ("corrupt", "model.safetensors is damaged or cut short"),
        ("no-tokenizer", "no tokenizer files"),
    ],
)
def test_a_model_that_cannot_be_used(
    tmp_path: Path, lines: Lines, home: Path, how: str, says: str
) -> None:
    model = spoiled(tmp_path, how)
    code, said = study(tmp_path, lines, "--set", "engine.kind=vllm", "--set", f"model={model}")
    assert code == 2
    assert str(model) in said
    assert says in said
    assert len(said.splitlines()) == 1
    assert not home.exists()


# -- config -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("anchors.rolouts=5", "unknown key `anchors.rolouts`; did you mean `rollouts`?"),
        ("rolouts=5", "unknown key `rolouts`; did you mean `anchors.rollouts`?"),
        ("anchors.rollouts=true", "`anchors.rollouts` = true"),
        ('anchors.rollouts="5"', "`anchors.rollouts` = \"5\""),
        ("anchors.rollouts=2.5", "`anchors.rollouts` = 2.5"),
        ("anchors=5", "`anchors` = 5: this is a section; write [anchors]"),
        ('source=""', '`source` = ""'),
        ("engine.kind=vlm", "= \"vlm\": there is no such engine; did you mean 'vllm'?"),
        ("grading.kind=regex", "`pattern` is needed for kind `regex`"),
        ("anchors.segmenter=nosuch", "no segmenter 'nosuch'"),
        ("source_options.format=nosuch", "= \"nosuch\": there is no such format"),
        ("nothing", "write key=value"),
    ],
)  # fmt: skip
def test_a_wrong_config(
    tmp_path: Path, lines: Lines, override: str, says: str
) -> None:  # fmt: skip
    code, said = study(tmp_path, lines, "--set", override)
    assert code == 2
    assert says in said
    assert len(said.splitlines()) == 1


def test_an_unknown_segmenter_leaves_nothing(tmp_path: Path, lines: Lines, home: Path) -> None:
    code, _ = study(tmp_path, lines, "--set", "anchors.segmenter=nosuch")
    assert code == 2 and not home.exists()


def test_a_config_that_is_not_there(home: Path) -> None:
    result = invoke("run", "nosuch.toml")
    assert result.exit_code == 2
    assert "nosuch.toml: no such config file (bundled ones: demo" in result.stderr


# -- homes and disks ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["file", "file/below", "/proc/nowhere", "~nobody-here/x"])
@pytest.mark.parametrize("command", ["run", "ingest"])
def test_a_home_that_cannot_be_written(
    tmp_path: Path, lines: Lines, where: str, command: str
) -> None:
    (tmp_path / "file").write_text("")
    place = where if where[0] in "/~" else tmp_path / where
    source = tmp_path / "good.jsonl"
    given = write_config(tmp_path / "c.toml", source) if command == "run" else source
    result = invoke(command, given, "--home", place)
    assert result.exit_code == 2
    assert str(place) in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, too small for a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root and the right to mount")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Fill a disk but for some bytes."""
    ballast = disk / "ballast"
    free = shutil.disk_usage(disk).free
    ballast.write_bytes(b"x" * max(free - leave, 0))
    return ballast


@pytest.mark.parametrize(
    ("leave_kib", "first"),
    [(0, True), (4, True), (64, True), (512, True), (900, True), (4, False), (64, False)],
)
def test_a_full_disk(
    tmp_path: Path,
    lines: Lines,
    small_disk: Path,
    monkeypatch: pytest.MonkeyPatch,
    leave_kib: int,
    first: bool,
) -> None:
    """Wherever it fills up, what was there stays, and the same command completes with room."""
    monkeypatch.setenv("TRACELAB_HOME", str(small_disk / "home"))
    if not first:
        assert invoke("ingest", tmp_path / "good.jsonl").exit_code == 0
    ballast = fill(small_disk, leave_kib << 10)
    code, said = study(tmp_path, lines)
    if code:  # a used home may have had just enough
        assert code == 1
        assert "the disk is full" in said or "no room" in said
        assert "run the same command again" in said
    assert code or not first
    ballast.unlink()
    if not first:
        assert len(rows("from traces where run_id = 'ingest'")) == 5
    code, said = study(tmp_path, lines)
    assert code == 0, said
    assert len(rows("from traces where run_id = 'study'")) == 5
    assert invoke("check").exit_code == 0
