"""`tracelab label`: a language model says what each sentence of a run does, instead of the rules.

What it says is an observation of the run's journal; labels go to `units.category`, with the model's
name in `units.labeller`. A sentence that the model gave no valid label keeps the rules'. What comes
back is data: it is parsed, never trusted.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.core.flow import Ask, Flow, together
from tracelab.core.item import Call, Observation
from tracelab.run.judges import JudgeSetup, asked
from tracelab.run.loop import Loop, MissingError, Unwatched
from tracelab.store.connect import open_reader, open_writer, transaction
from tracelab.store.find import find_run
from tracelab.store.home import Home
from tracelab.store.journal import Journal, Peek
from tracelab.text.categories import LABELS_SCHEMA, label_prompt, parse_labels

RECORD = "labels"
"""Key of a run's record under which it says who labelled it, and how."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labeller said about one trace: a category a sentence, None where it gave none."""

    trace_id: str
    labels: tuple[str | None, ...]
    error: str | None = None


Sentences = Sequence[tuple[str, Sequence[str]]]
"""Trace ids and their sentences."""


def label(
    traces: Sentences, *, who: Sequence[Any], reply_tokens: int, seed: int
) -> Flow[list[Labelled]]:
    """Ask about each trace once; failures are results with a reason.

    Args:
        traces: Whose sentences.
        who: What identifies the model.
        reply_tokens: Room for each reply; a label takes about twenty.
        seed: Sent with each request.
    """

    def one(trace_id: str, sentences: Sequence[str]) -> Flow[Labelled]:
        content = {
            "who": list(who),
            "messages": [[m["role"], m["content"]] for m in label_prompt(sentences)],
            "max_tokens": reply_tokens,
            "temperature": 0.0,
            "seed": seed,
            "json_schema": json.dumps(LABELS_SCHEMA),
        }
        heard: list[Observation] = []
        yield Ask("labels", [Call("chat", content)], heard.extend)
        o = heard[0]
        if o.error is not None:
            return Labelled(trace_id, (None,) * len(sentences), o.error)
        return Labelled(trace_id, tuple(parse_labels(o.value["text"], len(sentences))))

    return (yield from together(one(*t) for t in traces))


def label_run(
    home: Home, run: str, setup: JudgeSetup, *, seed: int, reply_tokens: int = 4096
) -> tuple[list[Labelled], str]:
    """Label every sentence of a run; returns what was said, and by whom.

    The run goes by its id, the beginning of one, or its name.

    Raises:
        QueryError: There is no such run.
        ConfigError: It has no sentences, or there is no model.
    """
    with open_reader(home.database) as con:
        run = find_run(con, run)
        traces = _sentences(con, run)
    if not traces:
        raise ConfigError(f"run {run!r} has no sentences; `tracelab query runs` lists the runs")
    there = (home.runs / run).is_dir()
    journal = Journal(str(home.runs), run) if there else Peek("memory://labels", run, empty=True)
    with journal, asked(setup, journal) as by:
        asking = label(traces, who=by.who, reply_tokens=reply_tokens, seed=seed)
        found = by.loop.drive(asking)
        if there and (record := journal.read_json("run.json")) is not None:
            how = {"who": by.who, "reply_tokens": reply_tokens, "seed": seed, "name": by.name}
            journal.write_json("run.json", record | {RECORD: how})
        labeller = by.name
    with open_writer(home.database, wait_s=30.0) as con, transaction(con):
        for f in found:
            _apply(con, run, f.trace_id, f.labels, labeller)
    return found, labeller


def label_again(con: DuckDBPyConnection, record: dict[str, Any], journal: Journal) -> None:
    """Write the labels that a run's journal has, if any: a run that is loaded again keeps them."""
    how = record.get(RECORD)
    if how is None:
        return
    run, name = record["run_id"], how["name"]
    asking = label(
        _sentences(con, run), who=how["who"], reply_tokens=how["reply_tokens"], seed=how["seed"]
    )
    try:
        found = Loop(journal, Unwatched(), {}).drive(asking)
    except MissingError:  # more traces since, or a damaged part: what is labelled stays so
        journal.warn(f"run {run!r}: {name} has not labelled all of it; label it again")
        return
    for f in found:
        _apply(con, run, f.trace_id, f.labels, name)


def _sentences(con: DuckDBPyConnection, run: str) -> list[tuple[str, list[str]]]:
    return con.execute(
        "SELECT trace_id, list(text ORDER BY unit_index) FROM units "
        "WHERE run_id = $run AND unit_kind = 'sentence' GROUP BY trace_id ORDER BY trace_id",
        {"run": run},
    ).fetchall()


def _apply(
    con: DuckDBPyConnection, run: str, trace: str, labels: Iterable[str | None], labeller: str
) -> None:
    for index, category in enumerate(labels):
        if category is not None:
            con.execute(
                "UPDATE units SET category = $label, labeller = $labeller WHERE run_id = $run "
                "AND trace_id = $trace AND unit_kind = 'sentence' AND unit_index = $index",
                {
                    "label": category,
                    "labeller": labeller,
                    "run": run,
                    "trace": trace,
                    "index": index,
                },
            )
