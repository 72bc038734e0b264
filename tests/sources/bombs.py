"""Files made to cost far more than their size, one or more for every importer.

`python -m tests.sources.bombs PATH…` ingests each in a process of its own and prints, as a line of
JSON, the file, how it ended, its peak memory (KiB) and the CPU seconds it took.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

A = "a" * 32
LLM = {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}}


def line(**fields: Any) -> bytes:
    return json.dumps({"prompt": "q", "response": "A. B.", **fields}).encode() + b"\n"


def spans(n: int, change: Callable[[int], dict[str, Any]], resource: Any = None) -> bytes:
    base = {"traceId": "T", "name": "n", "attributes": [LLM]}
    made = [{**base, "spanId": f"S{i}", "startTimeUnixNano": i, **change(i)} for i in range(n)]
    held = {"resource": {"attributes": resource or []}, "scopeSpans": [{"spans": made}]}
    return json.dumps({"resourceSpans": [held]}).encode()


def log(
    made: Callable[[], Any], how: int = zipfile.ZIP_DEFLATED, copies: int = 1
) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        content = made()
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        with zipfile.ZipFile(path, "w", how) as z:
            z.writestr("header.json", '{"eval": {"task": "t", "model": "m"}, "plan": {}}')
            for i in range(copies):
                z.writestr(f"samples/x_epoch_{i}.json", data)

    return write


def calls(n: int, ids: bool) -> bytes:
    asked = [{"id": f"c{i}", "function": {"name": f"f{i}", "arguments": "{}"}} for i in range(n)]
    given = [{"role": "tool", "content": "r", **({"tool_call_id": "c0"} if ids else {})}] * n
    says = {"role": "assistant", "content": None, "tool_calls": asked}
    chat = {"messages": [{"role": "user", "content": "q"}, says, *given]}
    return json.dumps(chat).encode() + b"\n"


def subagents(n: int) -> bytes:
    subs = [{"trajectory_id": f"t{i}", "steps": [{"source": "user", "message": "m"}]}
            for i in range(n)]  # fmt: skip
    results = [{"content": "r", "subagent_trajectory_ref": [{"trajectory_id": f"t{i}"}]}
               for i in reversed(range(n))]  # fmt: skip
    step = {"step_id": 1, "source": "agent", "message": "x", "observation": {"results": results}}
    return json.dumps(
        {"schema_version": "ATIF-v1.7", "steps": [step], "subagent_trajectories": subs}
    ).encode()


MODEL = {"event": "model", "output": {"choices": [{"message": {"content": "a"}}]}}
POOL = [{"role": "assistant", "content": f"m{i}"} for i in range(1000)]
Write = Callable[[Path], None]


def text(made: Callable[[], bytes]) -> Write:
    return lambda path: path.write_bytes(made()) and None


def many(item: bytes, n: int) -> bytes:
    return b",".join([item] * n)


def attribute_names() -> bytes:
    """One long name above many leaves, each of which repeats it when it is flattened."""
    leaves = {f"{i}": 1 for i in range(20_000)}
    span = {"traceId": "T", "spanId": "s", "attributes": {"p" * 300_000: leaves}}
    return json.dumps([span]).encode()


def inner_messages() -> bytes:
    """JSON inside JSON: every number becomes a message."""
    inner = "[" + ",".join(["1"] * 900_000) + "]"
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": inner}
    return spans(1, lambda i: {"attributes": attributes})


def sample(content: int) -> bytes:
    return b'{"id": 1, "messages": ["%s"]}' % (b"a" * (content << 20))


def referring() -> dict[str, Any]:
    events = [{**MODEL, "input_refs": [[0, 1000]] * 50}] * 2000
    return {"id": 1, "events": events, "events_data": {"messages": POOL}}


def attaching() -> dict[str, Any]:
    messages = [{"role": "user", "content": f"attachment://{A}"}] * 9000
    return {"id": 1, "attachments": {A: "x" * 100_000}, "events": [], "messages": messages}


RESOURCE = [{"key": f"k{i}", "value": {"stringValue": "v"}} for i in range(10_000)]
BOMBS: dict[str, Write] = {
    "messages.jsonl": text(lambda: b'{"messages": [%s], "response": "x"}' % many(b"1", 900_000)),
    "parts.jsonl": text(
        lambda: (
            b'{"messages": [{"role": "user", "content": [%s]}], "response": "x"}'
            % many(b"1", 900_000)
        )
    ),
    "lists.jsonl": text(lambda: line(x=[[]] * 1_000_000)),
    "strings.jsonl": text(lambda: line(x=["ab"] * 900_000)),
    "emoji.jsonl": text(lambda: line(response="\U0001f600" + "word and more. " * 50_000)),
    "breaks.jsonl": text(lambda: line(response="\n" * 500_000 + "x")),
    "boxes.jsonl": text(lambda: line(response="\\boxed{" * 100_000 + "x" + "}" * 100_000)),
    "contexts.jsonl": text(
        lambda: json.dumps({"context": ["d"] * 99_000, "query": "q", "response": "r"}).encode()
    ),
    "no_ids.jsonl": text(lambda: calls(5_000, ids=False)),
    "one_id.jsonl": text(lambda: calls(5_000, ids=True)),
    "steps.json": text(lambda: b'{"messages": [%s]}' % many(b'{"role": "tool"}', 90_000)),
    "subagents.json": text(lambda: subagents(4_000)),
    "history.json": text(
        lambda: b'{"history": [%s], "mistake_step": "1"}' % many(b'{"role": "a"}', 70_000)
    ),
    "one_span_id.json": text(lambda: spans(5_000, lambda i: {"spanId": "S", "name": f"{i}"})),
    "chain.json": text(lambda: spans(5_000, lambda i: {"parentSpanId": f"S{i + 1}"})),
    "resource.json": text(lambda: spans(3_000, lambda i: {"traceId": f"T{i}"}, RESOURCE)),
    "no_spans.json": text(
        lambda: b'{"resourceSpans": [{"scopeSpans": [{"spans": [%s]}]}]}' % many(b"1", 900_000)
    ),
    "names.json": text(attribute_names),
    "inner.json": text(inner_messages),
    "refs.eval": log(referring),
    "attachments.eval": log(attaching),
    "zeros.eval": log(lambda: sample(200)),
    "bzip2.eval": log(lambda: sample(200), zipfile.ZIP_BZIP2),
    "lzma.eval": log(lambda: sample(100), zipfile.ZIP_LZMA),
    "lists.eval": log(lambda: b'{"id": 1, "messages": [%s1]}' % (b"[]," * (9 << 20))),
    "copies.eval": log(lambda: sample(20), copies=20),
    "line.jsonl.gz": text(lambda: gzip.compress(line(response="a" * (60 << 20)), 6)),
    "document.json.gz": text(
        lambda: gzip.compress(b'{"messages": [%s]}' % many(b'{"role":"user"}', 10**6), 6)
    ),
}
"""What writes each, by file name."""
BOUND = {
    "lists.jsonl": "lists and objects",
    "no_spans.json": "rejected: 996 more",
    "names.json": "names that are too long",
    "inner.json": "more than 20000 messages",
    "history.json": "more than 20000 steps",
    "steps.json": "more than 20000 steps",
    "refs.eval": "more than 20000 messages",
    "attachments.eval": "Attachments make it longer",
    "zeros.eval": "unpacks to more than",
    "bzip2.eval": "unpacks to more than",
    "lzma.eval": "unpacks to more than",
    "lists.eval": "lists and objects",
    "copies.eval": "unpacks to more than",
    "line.jsonl.gz": "unpacks to more than",
}
"""What the reject of a bomb says, where it is refused."""


def write(folder: Path) -> list[Path]:
    """Write them all."""
    for name, make in BOMBS.items():
        make(folder / name)
    return [folder / name for name in BOMBS]


def main(paths: list[str]) -> None:
    import duckdb  # noqa: F401  # what is imported once is no cost of a file
    import pyarrow  # noqa: F401

    from tracelab.core.errors import TracelabError
    from tracelab.run.ingest import ingest_paths
    from tracelab.sources import SOURCES
    from tracelab.store.home import Home

    list(SOURCES.values())
    for path in paths:
        reads, writes = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reads)
            seconds = 30 + 2 * (Path(path).stat().st_size >> 20)
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            said: list[str] = []
            try:
                home = Home.at(f"{path}.home")
                ingest_paths([path], "auto", "x", "reasoning-v1", home, said.append)
            except TracelabError as e:
                said.append(str(e))
            except BaseException as e:
                said.append(f"Traceback {type(e).__name__}: {e}")
            os.write(writes, " ".join(said)[-4000:].encode("utf-8", "replace"))
            os._exit(0)
        os.close(writes)
        with os.fdopen(reads, "rb") as pipe:
            told = pipe.read().decode()
        _, status, used = os.wait4(child, 0)
        print(json.dumps([path, status, told, used.ru_maxrss, used.ru_utime + used.ru_stime]))


if __name__ == "__main__":
    main(sys.argv[1:])
