"""What several test modules need: scripted traces and a scripted study."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner, Result

from tracelab.cli import main
from tracelab.core.item import Item, Observation
from tracelab.core.trace import Trace, Turn, tokenized_units
from tracelab.core.unit import Unit
from tracelab.engines.base import observed
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.store.query import query, schema
from tracelab.text.segment import segment

_EOS = 256


def answers_of(engine: Any, *items: Item) -> list[Observation]:
    """What an engine answers, in item, then replicate order."""

    async def whole() -> list[Observation]:
        return [o async for found in observed(engine, items) for o in found]

    order = {item.key: k for k, item in reversed(list(enumerate(items)))}
    return sorted(asyncio.run(whole()), key=lambda o: (order[o.key], o.replicate))


def written(script: Script, rng: np.random.Generator) -> str:
    """A response drawn from a script, token by token."""
    tokens: list[int] = []
    while True:
        dist = script.next_token(tokens)
        pick = list(dist)[rng.choice(len(dist), p=list(dist.values()))]
        if pick == _EOS:
            return ScriptTokenizer(script).decode(tokens)
        tokens.append(pick)


def scripted_trace(script: Script, seed: int = 0, reference: str = "7") -> Trace:
    text = written(script, np.random.default_rng(seed))
    turns = (Turn("user", f"question {seed}"), Turn("assistant", text))
    return Trace(turns=turns, name=f"t{seed}", reference=reference)


def sentences(tokenizer: ScriptTokenizer, trace: Trace) -> tuple[object, list[Unit]]:
    tokens = tokenizer.tokenize(trace)
    spans = [(s.start, s.end) for s in segment(trace.response)]
    return tokens, tokenized_units(tokens, spans)


def tree(folder: Path) -> dict[Path, bytes | None]:
    """Everything under a folder: the bytes of its files, None for folders."""
    return {p: p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def write_jsonl(path: Path, script: Script, count: int) -> Path:
    """A file of scripted traces."""
    rows = []
    for i in range(count):
        trace = scripted_trace(script, i)
        rows.append(
            {"id": trace.name, "prompt": f"q{i}", "response": trace.response, "reference": "7"}
        )
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def write_config(path: Path, source: Path, **more: str) -> Path:
    """A config of a scripted run; `more` holds sections in TOML.

    Every boundary gets its rollouts at once unless `allocation` says otherwise: what is planned is
    then known beforehand.
    """
    plain = 'similarity = "lexical"\n'
    if "allocation" not in more.get("anchors", ""):
        plain += 'allocation = "uniform"\ncertificates = false\n'
    more = {**more, "anchors": plain + more.get("anchors", "")}
    extra = "\n".join(f"[{name}]\n{body}\n" for name, body in more.items())
    path.write_text(
        f'name = "study"\nsource = "{source}"\nmodel = "scripted"\n'
        f'[engine]\nkind = "scripted"\n{extra}'
    )
    return path


def invoke(*args: object, stdin: str | None = None) -> Result:
    """Run `tracelab ARGS`; a bug shows as its traceback, not as an exit code."""
    result = CliRunner().invoke(main, [str(a) for a in args], input=stdin, catch_exceptions=False)
    assert "Traceback" not in result.output
    return result


def rows(sql: str, home: Path | None = None) -> list[dict[str, Any]]:
    """Rows of the warehouse of `home`, or of the test's own."""
    with open_reader(Home.at(home).database) as con:
        found: list[dict[str, Any]] = query(con, sql).to_pylist()
    return found


def everything() -> dict[str, list[str]]:
    """Every row of every table but the log of migrations, sorted."""
    with open_reader(Home.at().database) as con:
        tables = [t.name for t in schema(con) if t.kind == "table"]
        tables.remove("schema_migrations")
        return {t: sorted(map(str, con.execute(f"FROM {t}").fetchall())) for t in tables}
