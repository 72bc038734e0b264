"""A selection into one HTML file.

Contract: the page carries everything it shows. Its policy (`Content-Security-Policy`) allows the
one script and the one style sheet that are in it, by their hashes, and no request at all, so that
text which got through every escape would still not run or call home.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from tracelab.core.errors import SchemaError
from tracelab.core.version import __version__
from tracelab.studies.cite.grounding import MEANING
from tracelab.text.categories import CATEGORIES
from tracelab.view.report import agents, alternatives, context, names, reasoning, runs, tables
from tracelab.view.report.reasoning import Data, Key
from tracelab.view.report.selection import Selected, remember
from tracelab.view.report.text import island, visible

BUDGET = 4_300_000
"""Bytes that the data of a report aim at; texts of rollouts are left out beyond that."""

_LEAST = 300_000  # bytes of rollouts that even the longest traces leave room for

_SCRIPTS = ("base.js", "curve.js", "reasoning.js", "detail.js", "context.js", "agents.js", "app.js")

_VIEWS = {"run_provenance", "trace_messages", "trace_units", "alternatives", "unit_scores"}

_MESSAGES = """
SELECT run_id, trace_id, role, name, text, answer, reference, success, reward_kind, model, source,
       n_prompt_tokens, n_response_tokens
FROM trace_messages JOIN selected USING (run_id, trace_id) ORDER BY position, turn_index
"""


def build(con: DuckDBPyConnection, selected: Selected, *, now: datetime | None = None) -> str:
    """The report of a selection, as HTML.

    Args:
        con: An open reader.
        selected: What `select` returned.
        now: Time to write at its foot, UTC; None leaves it out, so that it depends on data only.

    Raises:
        SchemaError: The warehouse was written by an older tracelab.
    """
    require_views(con)
    data = _data(con, selected)
    style, script = _static("report.css"), "\n".join(_static(name) for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    html = environment().get_template("report.html.j2").render(
        title=selected.title,
        runs=[
            runs.read(con, run) | {"tables": tables.of_run(run, data["traces"], data["labels"])}
            for run in selected.runs
        ],
        few=tables.few,
        labels=MEANING,
        slugs={(t.run_id, t.trace_id): t.slug for t in selected.traces},
        selected=selected,
        island=island(data),
        style=Markup(style),
        script=Markup(script),
        style_hash=_digest(style),
        script_hash=_digest(script),
        version=__version__,
        now=now,
    )  # fmt: skip
    return html


def require_views(con: DuckDBPyConnection) -> None:
    """Make sure that the warehouse has what a report reads.

    Raises:
        SchemaError: It has not.
    """
    names = con.execute("SELECT view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    if missing := sorted(_VIEWS - {name for (name,) in names}):
        raise SchemaError(
            f"the warehouse lacks the view {missing[0]}, because an older tracelab wrote it last: "
            "the next command that writes to it, such as `tracelab rebuild`, adds it"
        )


def write(html: str, path: Path) -> None:
    """Put a report at `path`, complete or not at all; folders above it are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        partial.write_text(html, encoding="utf-8", newline="\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def default_path(folder: Path, selected: Selected) -> Path:
    """Where the report of a selection goes when nobody says: a name of what is in it."""
    name = re.sub(r"[^\w.-]+", "-", selected.title, flags=re.ASCII).strip("-.")[:80] or "report"
    return folder / f"{name}.html"


def _data(con: DuckDBPyConnection, selected: Selected) -> dict[str, Any]:
    """What the page's script reads."""
    remember(con, selected.traces)
    heads, messages = _heads(con)
    sentences = reasoning.read(con)
    contexts = context.read(con, messages)
    audits = agents.read(con)
    traces = []
    keys = [(t.run_id, t.trace_id) for t in selected.traces]
    short = (
        names.labels([t.name for t in selected.traces], *zip(*keys, strict=True)) if keys else []
    )
    about = names.abouts([_question(messages[key]) for key in keys])
    for trace, label, question in zip(selected.traces, short, about, strict=True):
        key = (trace.run_id, trace.trace_id)
        head = heads[key]
        # The response is told by its units; whole only where it has none.
        told = key in sentences or key in contexts or key in audits
        head["messages"] = [] if key in contexts else messages[key][: -1 if told else None]
        ended = tables.outcome(head["success"], head["answer"], head["reference"])
        named = {"name": trace.name, "label": label, "about": question, "outcome": ended}
        traces.append({"id": trace.slug, "run": trace.run_id, **named, **head})
        for name, part in (("reasoning", sentences), ("context", contexts), ("agent", audits)):
            if key in part:
                traces[-1][name] = part[key]
    methods = sorted({m for d in sentences.values() for m in d.get("methods", {})})
    data: dict[str, Any] = {
        "traces": traces,
        "categories": CATEGORIES,
        "labels": MEANING,
        "evidence": agents.EVIDENCE,
        "statuses": agents.STATUSES,
        "methods": [m for m in runs.PREFERRED if m in methods]
        + [m for m in methods if m not in runs.PREFERRED],
    }
    spent = len(json.dumps(data, ensure_ascii=False).encode())
    data["caps"] = alternatives.read(con, sentences, max(_LEAST, BUDGET - spent))
    return data


def _heads(con: DuckDBPyConnection) -> tuple[dict[Key, Data], dict[Key, list[list[Any]]]]:
    """How each trace ended, and its messages [role, name, text]."""
    heads: dict[Key, Data] = {}
    messages: dict[Key, list[list[Any]]] = {}
    for run, trace, role, name, text, *rest in con.execute(_MESSAGES).fetchall():
        answer, reference, success, kind, model, source, prompt, response = rest
        messages.setdefault((run, trace), []).append([role, name, text])
        heads[run, trace] = {
            "answer": answer,
            "reference": reference,
            "success": success,
            "reward": kind,
            "model": model,
            "source": source,
            "tokens": [prompt, response],
        }
    return heads, messages


def _question(messages: list[list[Any]]) -> str:
    """What a trace was asked last, without the response."""
    asked = [text for role, _, text in messages[:-1] if role == "user"]
    return str(asked[-1] if asked else messages[0][2])


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


@cache
def _static(name: str) -> str:
    return (Path(__file__).parent / "static" / name).read_text(encoding="utf-8")


@cache
def environment(package: str = "tracelab.view.report") -> Environment:
    """Templates of a package, escaping whatever they are given, with the report's filters."""
    env = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters["visible"] = visible
    env.filters["signed"] = signed
    env.filters["figure"] = figure
    env.filters["when"] = when
    return env


def signed(value: float | None, digits: int = 2) -> str:
    """`+0.31`, `−0.05`; a missing one is said to be missing."""
    if value is None:
        return "not measured"
    text = f"{abs(value):.{digits}f}"
    return text if float(text) == 0 else ("+" if value > 0 else "\u2212") + text


def figure(value: float | int | None, digits: int = 2) -> str:
    """A number with thousands separated; a missing one is said to be missing."""
    if value is None:
        return "not measured"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def when(value: datetime | None) -> str:
    """A time of the warehouse, which is UTC."""
    if value is None:
        return "not finished"
    at = value if value.tzinfo is None else value.astimezone(UTC)
    return f"{at:%Y-%m-%d %H:%M} UTC"
