"""The net around each record: whatever reading one raises, the others are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import invoke, rows
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.run import ingest
from tracelab.sources import base, jsonl, read
from tracelab.sources.agents import openai_chat, who_and_when
from tracelab.sources.spans import otel

CHAT = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
SPAN = {"spanId": "s", "name": "n", "attributes": {"gen_ai.operation.name": "chat"}}
RECORDS: dict[str, tuple[Any, str, Callable[[int], dict[str, Any]]]] = {
    "jsonl": (jsonl, "_trace", lambda i: {"prompt": f"q{i}", "response": "A."}),
    "openai-chat": (openai_chat, "_episode", lambda i: {**CHAT, "id": f"{i}"}),
    "who-and-when": (
        who_and_when, "text_of", lambda i: {"history": [{"role": "a", "content": f"c{i}"}]}
    ),
    "otel": (otel, "episode_of_spans", lambda i: {**SPAN, "traceId": f"T{i}"}),
}  # fmt: skip
ERRORS = [MemoryError(), RecursionError(), KeyError("x"), ZeroDivisionError("\ud800"), OSError(5)]


def broken(
    monkeypatch: pytest.MonkeyPatch, form: str, error: BaseException, at: int = 2
) -> Callable[[int], dict[str, Any]]:
    """The importer stumbles over its second record."""
    module, name, record = RECORDS[form]
    real, count = getattr(module, name), [0]

    def stumbling(*args: Any, **more: Any) -> Any:
        count[0] += 1
        if count[0] == at:
            raise error
        return real(*args, **more)

    monkeypatch.setattr(module, name, stumbling)
    return record


@pytest.mark.parametrize("form", RECORDS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_one_record_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str, error: BaseException
) -> None:
    record = broken(monkeypatch, form, error)
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record(i)) + "\n" for i in range(3)))
    first, reject, last = read(path, form)
    assert isinstance(first, Trace) and isinstance(last, Trace)
    assert isinstance(reject, Reject) and reject.line == 2
    assert type(error).__name__ in reject.reason
    reject.reason.encode()


@pytest.mark.parametrize("form", RECORDS)
def test_an_interrupt_is_no_bad_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    record = broken(monkeypatch, form, KeyboardInterrupt())
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(record(i)) + "\n" for i in range(3)))
    with pytest.raises(KeyboardInterrupt):
        list(read(path, form))


def test_a_file_that_breaks_costs_only_itself(tmp_path: Path) -> None:
    """A log that is no log ends nothing but itself, where there are others."""
    (tmp_path / "a.eval").write_bytes(b"PK\x03\x04 no archive")
    (tmp_path / "b.jsonl").write_text('{"prompt": "q", "response": "A."}\n')
    reject, trace = read([tmp_path / "a.eval", tmp_path / "b.jsonl"])
    assert isinstance(reject, Reject) and isinstance(trace, Trace)


def test_a_trace_that_the_database_refuses_costs_only_itself(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = ingest.load_traces

    def picky(con: Any, name: str, traces: Any) -> None:
        if any("odd" in t.tokens.trace.name for t in traces):
            raise ValueError("what a database says")
        real(con, name, traces)

    monkeypatch.setattr(ingest, "load_traces", picky)
    names = ("a", "odd", "b")
    path = tmp_path / "t.jsonl"
    path.write_text(
        "".join(json.dumps({"id": n, "prompt": n, "response": "A. B."}) + "\n" for n in names)
    )
    out = invoke("ingest", path, "--max-error-rate", "1")
    assert out.exit_code == 0, out.output
    assert [r["name"] for r in rows("select name from traces order by name")] == ["a", "b"]
    (reject,) = rows("select line, reason from rejects")
    assert reject["line"] == 2 and "what a database says" in str(reject["reason"])


def test_what_a_reject_says_is_short_and_can_be_stored() -> None:
    reject = base.refused(ValueError("\ud800" * 5000 + "\n"), "f", 3, b"\xff" * 9999)
    assert len(reject.reason) < 300 and len(reject.excerpt) <= 200 and "\n" not in reject.reason
    f"{reject.reason}{reject.excerpt}".encode()
