"""Plain JSONL: every line becomes a trace or an exact reject, and no bad line costs another."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.core.errors import ConfigError, ImportFormatError
from tracelab.core.outside import INNER_DEPTH as MAX_DEPTH
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources import read
from tracelab.sources.jsonl import read_jsonl

GOOD = {"prompt": "What is 2 + 2?", "response": "2 + 2 is 4."}


def line(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode() + b"\n"


def write(folder: Path, *lines: bytes, name: str = "my.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"".join(lines))
    return path


def one_reject(folder: Path, bad: bytes) -> Reject:
    """Put a bad line between two good ones: only it is lost."""
    path = write(folder, line(id="a", prompt="A?"), bad + b"\n", line(id="c", prompt="C?"))
    first, reject, last = read(path)
    assert isinstance(first, Trace) and first.name == "a"
    assert isinstance(last, Trace) and last.name == "c"
    assert isinstance(reject, Reject)
    assert (reject.file, reject.line) == (str(path), 2)
    return reject


def test_a_full_record(tmp_path: Path) -> None:
    record = {"id": 7, "answer": 4, "reference": "4", "model": "m", "success": True, "topic": "sum"}
    (trace,) = read(write(tmp_path, line(**record)))
    assert trace == Trace(
        turns=(Turn("user", GOOD["prompt"]), Turn("assistant", GOOD["response"])),
        name="7",
        model="m",
        answer="4",
        reference="4",
        success=True,
        source=str(tmp_path / "my.jsonl"),
        extra={"topic": "sum"},
        line=1,
    )
    assert Trace.from_json(trace.to_json()) == trace


def test_a_record_without_id_is_named_by_its_place(tmp_path: Path) -> None:
    (trace,) = read(write(tmp_path, b"\n", line(rendering="raw", answer=" ")))
    assert isinstance(trace, Trace)
    assert (trace.name, trace.rendering, trace.answer) == ("my.jsonl:2", "raw", None)


def test_messages(tmp_path: Path) -> None:
    question = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 2?"}]
    parts = [{"type": "text", "text": "It is "}, {"type": "text", "text": "4."}]
    said = {"role": "assistant", "content": parts, "refusal": None, "note": "x"}
    records = [
        {"messages": question, "response": "It is 4."},
        {"messages": [*question, said], "model": "m"},
        {"messages": [*question, said], "response": "It is 4.", "model": "n"},
    ]
    path = write(tmp_path, *(json.dumps(r).encode() + b"\n" for r in records))
    traces = [t for t in read(path) if isinstance(t, Trace)]
    assert len(traces) == 3
    assert all(t.response == "It is 4." and t.prompt == traces[0].prompt for t in traces)
    assert [t.role for t in traces[0].turns] == ["system", "user", "assistant"]
    assert traces[1].extra == {"message_fields": {"2": {"note": "x"}}}


BAD: list[tuple[bytes, str, str | None]] = [
    (b'{"prompt": "A?", "respon', "Not valid JSON: Unterminated string starting at", None),
    (b'{"prompt": "A?"} x', "Not valid JSON: Extra data (column 18).", None),
    (b'{"prompt": "\xff?"}', "Not valid UTF-8 (byte 13 of the text).", None),
    (b'["A?", "B."]', "The line is a list, not a JSON object.", None),
    (b"null", "The line is null, not a JSON object.", None),
    (b"3", "The line is a number, not a JSON object.", None),
    (line(score=float("nan")).strip(), "NaN is not JSON.", None),
    (line(score=float("-inf")).strip(), "-Infinity is not JSON.", None),
    (b'{"score": 1e999}', "The number 1e999 is too large.", None),
    (b'{"score": ' + b"9" * 5000 + b"}", "Holds an integer with too many digits.", None),
    (b'{"a": ' * 70 + b"1" + b"}" * 70, "Nested more than 64 levels deep.", None),
    (b"[" * 100_000, "Nested more than 64 levels deep.", None),
    (line(response="\ud800").strip(), "`response` holds a lone surrogate", "response"),
    (line(meta={"k": ["\udfff"]}).strip(), "`meta` holds a lone surrogate", "meta"),
    (line(response="").strip(), "`response` is empty.", "response"),
    (line(response=" \n").strip(), "`response` is empty.", "response"),
    (line(response=None).strip(), "`response` is missing", "response"),
    (line(prompt="").strip(), "`prompt` is empty.", "prompt"),
    (b'{"response": "B."}', "The record has neither `prompt` nor `messages`.", "prompt"),
    (
        b'{"id": "a", "Question": "2+2?", "answer": "4"}',
        "The record has neither `prompt` nor "
        "`messages`. Name the column that asks: --column question=Question, and --column "
        "response=answer if a model wrote that (`columns` in a config).",
        "prompt",
    ),
    (line(response=["B."]).strip(), "`response` must be a string, not a list.", "response"),
    (line(prompt=3).strip(), "`prompt` must be a string, not a number.", "prompt"),
    (line(id=[1]).strip(), "`id` must be a string or an integer, not a list.", "id"),
    (line(id=True).strip(), "`id` must be a string or an integer, not a boolean.", "id"),
    (line(answer={}).strip(), "`answer` must be a string or a number, not an object.", "answer"),
    (line(reference=True).strip(), "`reference` must be a string or a number, not a", "reference"),
    (line(model=1.5).strip(), "`model` must be a string, not a number.", "model"),
    (line(success="yes").strip(), "`success` must be true or false, not `yes`.", "success"),
    (line(rendering="chatml").strip(), "`rendering` must be `chat` or `raw`, not `c", "rendering"),
    (line(messages=[]).strip(), "The record has both `prompt` and `messages`", "messages"),
]


@pytest.mark.parametrize(("bad", "reason", "field"), BAD)
def test_bad_lines(tmp_path: Path, bad: bytes, reason: str, field: str | None) -> None:
    reject = one_reject(tmp_path, bad)
    assert reject.reason.startswith(reason)
    assert reject.reason.endswith(".")
    assert reject.field == field
    assert 0 < len(reject.excerpt) <= 200


BAD_MESSAGES: list[tuple[Any, str, str]] = [
    ("hi", "`messages` must be a list of messages, not `hi`.", "messages"),
    ([], "`messages` holds no prompt.", "messages"),
    (["hi"], "`messages[0]` must be an object, not `hi`.", "messages[0]"),
    (
        [{"role": "developer", "content": "x"}],
        "`messages[0].role` must be `system`, `user`, `assistant` or `tool`, not `developer`.",
        "messages[0].role",
    ),
    ([{"role": "user"}], "`messages[0].content` is missing.", "messages[0].content"),
    (
        [{"role": "user", "content": 4}],
        "`messages[0].content` must be a string or a list of text parts, not a number.",
        "messages[0].content",
    ),
    (
        [{"role": "user", "content": [{"type": "image_url", "url": "x"}]}],
        "`messages[0].content[0].type` must be `text`, not `image_url`.",
        "messages[0].content[0].type",
    ),
    (
        [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}],
        "`messages` already ends with another response than `response`.",
        "response",
    ),
    ([{"role": "user", "content": " "}], "The prompt in `messages` is empty.", "messages"),
]


@pytest.mark.parametrize(("messages", "reason", "field"), BAD_MESSAGES)
def test_bad_messages(tmp_path: Path, messages: Any, reason: str, field: str) -> None:
    bad = json.dumps({"messages": messages, "response": "B."}).encode()
    reject = one_reject(tmp_path, bad)
    assert (reject.reason, reject.field) == (reason, field)


def test_truncated_line_three_of_five(tmp_path: Path) -> None:
    lines = [line(prompt=f"{i}?") for i in range(5)]
    lines[2] = lines[2][:20] + b"\n"
    found = list(read(write(tmp_path, *lines)))
    assert [isinstance(f, Trace) for f in found] == [True, True, False, True, True]
    assert isinstance(found[2], Reject) and found[2].line == 3
    assert found[2].excerpt == lines[2].decode().strip()


def test_duplicates(tmp_path: Path) -> None:
    path = write(tmp_path, line(id="a"), line(id="b"), line(id="a", prompt="Other?"), line(id="c"))
    other = write(tmp_path, line(id="a", prompt="New?"), line(), name="other.jsonl")
    found = list(read([path, other]))
    assert [f.name for f in found if isinstance(f, Trace)] == ["a", "a"]
    assert [(f.line, f.reason) for f in found if isinstance(f, Reject)] == [
        (2, "Duplicate of line 1: the same turns and model."),
        (3, "Duplicate of line 1: the same id 'a'."),
        (4, "Duplicate of line 1: the same turns and model."),
        (2, f"Duplicate of {path} line 1: the same turns and model."),
    ]


def test_bom_crlf_blank_lines_and_no_final_line_break(tmp_path: Path) -> None:
    lines = [b"\xef\xbb\xbf", line(id="a").strip() + b"\r\n", b"  \r\n", line(id="b", prompt="B?")]
    found = list(read(write(tmp_path, *lines[:-1], lines[-1].strip())))
    assert [f.name for f in found if isinstance(f, Trace)] == ["a", "b"]


def test_a_response_that_ends_mid_sentence_is_kept(tmp_path: Path) -> None:
    (trace,) = read(write(tmp_path, line(response="So 2 + 2")))
    assert isinstance(trace, Trace) and trace.response == "So 2 + 2"


def test_a_ten_megabyte_line_is_fine(tmp_path: Path) -> None:
    (trace,) = read(write(tmp_path, line(response="It is 4. " * 1_200_000)))
    assert isinstance(trace, Trace) and len(trace.response) > 10_000_000


@pytest.mark.parametrize("compressed", [False, True])
def test_a_line_over_the_limit_is_rejected_alone(tmp_path: Path, compressed: bool) -> None:
    data = line(id="a") + line(response="x" * 3_000_000) + line(id="c", prompt="C?")
    path = write(tmp_path, gzip.compress(data) if compressed else data)
    found = list(read_jsonl(path, limit=1 << 20))
    assert [type(f) for f in found] == [Trace, Reject, Trace]
    assert isinstance(found[1], Reject)
    assert (found[1].line, found[1].reason) == (2, "The line is longer than 1 MiB.")


def test_gzip_is_told_by_content(tmp_path: Path) -> None:
    packed = gzip.compress(line(id="a") + line(id="b", prompt="B?"))
    for name in ("my.jsonl.gz", "my.jsonl"):
        found = list(read(write(tmp_path, packed, name=name)))
        assert [f.name for f in found if isinstance(f, Trace)] == ["a", "b"]


def test_a_broken_gzip_stream_loses_only_its_end(tmp_path: Path) -> None:
    lines = [line(id=i, prompt=f"{i}?", noise=os.urandom(40).hex()) for i in range(5000)]
    packed = gzip.compress(b"".join(lines))
    found = list(read(write(tmp_path, packed[: len(packed) // 2], name="my.jsonl.gz")))
    assert all(isinstance(f, Trace) for f in found[:-1]) and len(found) > 2000
    assert isinstance(found[-1], Reject)
    assert found[-1].line == len(found)
    assert found[-1].reason.startswith("The gzip stream breaks here")


def test_unreadable_paths(tmp_path: Path) -> None:
    empty = write(tmp_path, name="empty.jsonl")
    blank = write(tmp_path, b"\xef\xbb\xbf \r\n\n", name="blank.jsonl")
    wide = write(tmp_path, "{}".encode("utf-16"), name="wide.jsonl")
    array = write(tmp_path, b"[\n{}\n]", name="array.json")
    prose = write(tmp_path, b"Hello.", name="notes.txt")
    (tmp_path / "bare").mkdir()
    write(tmp_path / "bare", b"Hello.", name="notes.txt")
    (tmp_path / "hollow").mkdir()
    write(tmp_path / "hollow", name="empty.jsonl")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in [
        (tmp_path / "missing.jsonl", "no such file or folder."),
        (empty, "is empty."),
        (blank, "is empty."),
        (wide, "is UTF-16; save it as UTF-8."),
        (array, "is of no format that tracelab reads ("),
        (prose, "is of no format that tracelab reads (trail, jaeger, "),
        (tmp_path / "bare", "holds nothing that can be read; tracelab reads trail, jaeger"),
        (tmp_path / "hollow", "holds nothing that can be read:"),
        (tmp_path / "pipe", "is neither a file nor a folder."),
        (Path("a\0b"), "no such file or folder."),
    ]:
        with pytest.raises(ImportFormatError) as caught:
            read(path)
        assert str(caught.value).startswith(str(path))
        assert reason in str(caught.value)
        assert caught.value.exit_code == 2


def test_a_missing_path_is_told_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ImportFormatError):
        read([write(tmp_path, line()), tmp_path / "missing.jsonl"])


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path, line(id="b", prompt="B?"), name="b.jsonl")
    write(tmp_path, b"Notes.", name="readme.txt")
    write(tmp_path, name="empty.jsonl")
    (tmp_path / "a").mkdir()
    write(tmp_path / "a", gzip.compress(line(id="a")), name="a.jsonl.gz")
    found = list(read(tmp_path))
    assert [f.name for f in found if isinstance(f, Trace)] == ["a", "b"]
    (reject,) = (f for f in found if isinstance(f, Reject))
    assert (reject.line, reject.reason) == (0, f"{tmp_path / 'empty.jsonl'} is empty.")


def test_formats(tmp_path: Path) -> None:
    path = write(tmp_path, line(), name="data.txt")
    assert len(list(read(str(path), "jsonl"))) == 1
    assert len(list(read(path))) == 1
    with pytest.raises(ConfigError, match="'jsonl'"):
        read(path, "json")
    with pytest.raises(ImportFormatError, match="is a file"):
        read(path, "thought-anchors")


def test_reading_is_lazy(tmp_path: Path) -> None:
    path = write(tmp_path, line(id="a"), b"x" * 100 + b"\n")
    found = read(path)
    assert isinstance(next(found), Trace)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["id", "prompt", "messages", "response", "answer", "model", "role", "x"])


@settings(max_examples=200)
@given(records=st.lists(st.dictionaries(KEYS, VALUES) | VALUES | st.binary(), max_size=4))
def test_any_file_gives_one_result_a_line(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any]
) -> None:
    lines = [
        r.replace(b"\n", b" ") if isinstance(r, bytes) else json.dumps(r).encode()
        for r in [GOOD, *records]
    ]
    path = write(tmp_path_factory.mktemp("any"), b"\n".join(lines))
    found = list(read_jsonl(path))
    assert len(found) == sum(1 for data in lines if data.strip())
    for item in found:
        if isinstance(item, Trace):
            assert Trace.from_json(json.loads(json.dumps(item.to_json()))) == item
        else:
            assert item.reason.endswith(".") and item.line > 0
            item.reason.encode()
            item.excerpt.encode()


def test_the_depth_limit_is_exact(tmp_path: Path) -> None:
    def nested(levels: int) -> bytes:
        value: Any = 1
        for _ in range(levels - 1):  # the record is a level too
            value = [value]
        return line(prompt=f"{levels}?", x=value)

    found = list(read(write(tmp_path, nested(MAX_DEPTH), nested(MAX_DEPTH + 1))))
    assert [type(f) for f in found] == [Trace, Reject]
