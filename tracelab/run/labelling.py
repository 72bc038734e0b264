"""`tracelab label`: a language model says what each sentence of a run does, instead of the rules.

Labels go to the journal (`labels.jsonl`) and to `units.category`, with the model's name in
`units.labeller`. A sentence that the model gave no valid label keeps the rules'. What comes back is
data: it is parsed, never trusted.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.engines import aio
from tracelab.engines.chat import ChatClient, ChatRequest
from tracelab.store.connect import open_reader, open_writer, transaction
from tracelab.store.home import Home
from tracelab.store.journal import Journal
from tracelab.studies.audit.judging import JudgeSetup, open_client
from tracelab.text.categories import LABELS_SCHEMA, label_prompt, parse_labels

FILE = "labels.jsonl"


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a labeller said about one trace: a category a sentence, None where it gave none."""

    trace_id: str
    labels: tuple[str | None, ...]
    error: str | None = None


async def label_traces(
    traces: Sequence[tuple[str, Sequence[str]]], client: ChatClient, *, reply_tokens: int, seed: int
) -> list[Labelled]:
    """Ask about each trace once; failures are rows with a reason.

    Args:
        traces: `(trace_id, sentences)`.
        client: Who answers.
        reply_tokens: Room for each reply; a label takes about twenty.
        seed: Sent with each request.
    """

    async def one(trace_id: str, sentences: Sequence[str]) -> Labelled:
        messages = tuple((m["role"], m["content"]) for m in label_prompt(sentences))
        schema = json.dumps(LABELS_SCHEMA)
        request = ChatRequest(messages, reply_tokens, seed=seed, json_schema=schema)  # type: ignore[arg-type]
        reply = await client.ask(request)
        if reply.text is None:
            return Labelled(trace_id, (None,) * len(sentences), reply.error)
        return Labelled(trace_id, tuple(parse_labels(reply.text, len(sentences))))

    found = await asyncio.gather(*(one(trace, sentences) for trace, sentences in traces))
    await client.close()
    return list(found)


def label_run(
    home: Home, run: str, setup: JudgeSetup, *, reply_tokens: int = 4096
) -> tuple[list[Labelled], str]:
    """Label every sentence of a run; returns what was said, and by whom.

    Raises:
        ConfigError: There is no such run, or no model.
    """
    with open_reader(home.database) as con:
        rows = con.execute(
            "SELECT trace_id, list(text ORDER BY unit_index) FROM units "
            "WHERE run_id = $run AND unit_kind = 'sentence' GROUP BY trace_id ORDER BY trace_id",
            {"run": run},
        ).fetchall()
    if not rows:
        raise ConfigError(f"run {run!r} has no sentences; `tracelab query runs` lists the runs")
    with open_client(setup) as client:
        found = aio.run(label_traces(rows, client, reply_tokens=reply_tokens, seed=setup.seed))
        labeller = client.name
    if (home.runs / run).is_dir():
        with Journal(str(home.runs), run) as journal:
            journal.write_lines(
                FILE,
                ({"trace_id": f.trace_id, "labels": f.labels, "labeller": labeller} for f in found),
            )
    with open_writer(home.database, wait_s=30.0) as con, transaction(con):
        for f in found:
            apply(con, run, f.trace_id, f.labels, labeller)
    return found, labeller


def apply(
    con: DuckDBPyConnection,
    run: str,
    trace: str,
    labels: Iterable[str | None],
    labeller: str,
) -> None:
    """Write the labels of one trace."""
    for index, label in enumerate(labels):
        if label is not None:
            con.execute(
                "UPDATE units SET category = $label, labeller = $labeller WHERE run_id = $run "
                "AND trace_id = $trace AND unit_kind = 'sentence' AND unit_index = $index",
                {"label": label, "labeller": labeller, "run": run, "trace": trace, "index": index},
            )


def apply_recorded(con: DuckDBPyConnection, run: str, journal: Journal) -> None:
    """Write the labels that the journal has, if any: what `rebuild` needs."""
    if journal.has(FILE):
        for row in journal.read_lines(FILE):
            apply(con, run, row["trace_id"], row["labels"], row["labeller"])
