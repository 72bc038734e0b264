"""`tracelab.ingest`: traces into the warehouse from Python, without a model."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tracelab.run.ingest import Ingested, ingest_paths
from tracelab.store.home import Home
from tracelab.text.clean import clean
from tracelab.view.data import Data, place


def ingest(
    data: Data,
    *,
    name: str = "ingest",
    format: str = "auto",
    columns: Mapping[str, str] | None = None,
    segmenter: str = "reasoning-v1",
    quiet: bool = False,
    home: str | Path | None = None,
) -> Ingested:
    """Load traces into the warehouse; `tracelab ingest`.

    Args:
        data: A path or several (files and folders), a record of any format that `tracelab ingest`
            reads, a list of such records, or JSON text of one.
        name: Run that the traces belong to.
        format: What it is; `auto` tells by what it holds, record by record.
        columns: What a data set calls its columns, by their names here: `{"question": "Aufgabe"}`.
        segmenter: How reasoning is cut into sentences.
        quiet: Nothing on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.

    Raises:
        TracelabError: Something given cannot be used, or no record of it can; one sentence.
    """
    at = Home.at(home)
    source, _ = place(data, at)
    return ingest_paths(
        source.splitlines(), format, name, segmenter, at,
        lambda line: None if quiet else print(clean(line), file=sys.stderr),
        columns=columns,
    )  # fmt: skip
