"""Inputs near to real ones: seeds of the repository, changed as bytes or as JSON."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from pathlib import Path
from typing import Any

TESTS = Path(__file__).parents[1]
ODD: list[Any] = [
    None, True, -1, 10**400, 1e308, "", "\x00", "²", "1e400", "\ufffd" * 3, [], {}, [[]], {"": {}},
    "NaN", '{"a": "\\ud800"}', "[" * 300, '{"a": NaN}', "9" * 500, {"type": ["x"]}, "\u202e",
    "\\boxed{" * 20, "</think>", "answer: (A)\n\n", "1,2,3", "-\u2212/0", "\\frac{1}{0}",
]  # fmt: skip
TOKENS = [
    b"\\ud800", b"NaN", b"-Infinity", b"1e400", b"9" * 400, b"[" * 250, b'{"a":' * 250, b"\xff",
    b"\x00", b"\n", b'"', b"}", b"]", b",", b"\\boxed{", b"</think>", b"```json\n", b"\\u0000",
    "²".encode(), b"answer: ", b"\r\n\r\n", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"PK\x03\x04",
]  # fmt: skip


def seeds() -> list[bytes]:
    """Small files of the corpus and of the snapshot's inputs, and a few texts."""
    folders = [TESTS / "corpus", TESTS / "snapshot" / "inputs"]
    found = [p.read_bytes() for f in folders for p in sorted(f.rglob("*")) if p.is_file()]
    texts = [
        b"<think>Let me see. 2 + 2 = 4.\n\nWait, no!</think>The answer is (B) \\boxed{\\frac12}.",
        b'```json\n{"label": "correct", "reason": "r"}\n```', b"Agent: solver\nStep: 2\nReason: x",
        b'{"sources": [1, 2]}', b"<tool_call>{\"name\": \"get\", \"arguments\": {}}</tool_call>",
        b'{"messages": [{"role": "user", "content": "q"}], "done": false, "ended": ""}',
    ]  # fmt: skip
    return [s for s in found if len(s) < 20_000] + texts


def mutated(rng: random.Random, pool: list[bytes]) -> bytes:
    """One input; the same generator state gives the same input."""
    data = rng.choice(pool)
    packed = data[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.5:
        try:
            return gzip.compress(_changed(rng, gzip.decompress(data), pool), mtime=0)
        except (OSError, EOFError):
            pass
    if data[:2] == b"PK" and rng.random() < 0.5:
        return _rezipped(rng, data, pool)
    return _changed(rng, data, pool)


def _changed(rng: random.Random, data: bytes, pool: list[bytes]) -> bytes:
    if rng.random() < 0.6:
        try:
            lines = [json.loads(x) for x in data.splitlines() if x.strip()]
        except (ValueError, RecursionError):
            try:
                lines = [json.loads(data)]
            except (ValueError, RecursionError):
                lines = []
        if lines:
            for _ in range(rng.choice((1, 1, 2, 5))):
                i = rng.randrange(len(lines))
                lines[i] = _node(rng, lines[i])
            return b"\n".join(json.dumps(x).encode() for x in lines)
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 4, 8))):
        at = rng.randrange(len(out) + 1)
        what = rng.randrange(5)
        if what == 0 and out:
            out[min(at, len(out) - 1)] ^= 1 << rng.randrange(8)
        elif what == 1:
            out[at:at] = rng.choice(TOKENS)
        elif what == 2:
            del out[at : at + rng.randrange(1, 40)]
        elif what == 3:
            other = rng.choice(pool)
            start = rng.randrange(len(other) + 1)
            out[at:at] = other[start : start + rng.randrange(200)]
        else:
            out[at:at] = out[at : at + rng.randrange(100)] * rng.randrange(1, 20)
    return bytes(out)


def _node(rng: random.Random, value: Any) -> Any:
    """The value with one of its nodes replaced, repeated or gone."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        changed = dict(value)
        if rng.random() < 0.1:
            del changed[key]
        elif rng.random() < 0.1:
            changed[str(rng.choice(ODD))[:50]] = value[key]
        else:
            changed[key] = _node(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        if rng.random() < 0.2:
            return value[:i] + [value[i]] * rng.randrange(0, 5) + value[i + 1 :]
        return value[:i] + [_node(rng, value[i])] + value[i + 1 :]
    return rng.choice(ODD)


def _rezipped(rng: random.Random, data: bytes, pool: list[bytes]) -> bytes:
    """The archive with other content, methods and names."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as z:
            members = [(n, z.read(n)) for n in z.namelist()]
    except Exception:  # a seed that is broken on purpose
        members = [("header.json", b"{}"), ("samples/a.json", rng.choice(pool))]
    out = io.BytesIO()
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(out, "w") as z:
        for name, content in members:
            changed = _changed(rng, content, pool) if rng.random() < 0.5 else content
            z.writestr(zipfile.ZipInfo(name), changed, rng.choice(methods))
    packed = bytearray(out.getvalue())
    if rng.random() < 0.3:
        packed[rng.randrange(len(packed))] ^= 1 << rng.randrange(8)
    return bytes(packed)
