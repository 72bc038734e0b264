"""Files that once broke something: each is read again, by every importer, to the end.

A crash that `make fuzz` finds becomes a file of `tests/corpus`; nothing else is needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import invoke, rows
from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import SOURCES, read

CORPUS = Path(__file__).parents[1] / "corpus"
FILES = sorted(p for p in CORPUS.iterdir() if p.suffix not in (".toml", ".txt"))


def found(path: Path, form: str) -> Iterator[Trace | Reject]:
    try:
        yield from read(path, form)
    except ImportFormatError:
        return


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.name)
def test_every_importer_reads_it_to_the_end(path: Path) -> None:
    for form in ["auto", *(n for n, s in SOURCES.items() if s.suffixes)]:
        for item in found(path, form):
            if isinstance(item, Trace):
                text = json.dumps(item.to_json(), ensure_ascii=False, allow_nan=False)
                again = Trace.from_json(json.loads(text.encode()))  # no half of a surrogate
                assert again.trace_id == item.trace_id
            else:
                assert item.reason and len(item.reason) < 1000
                f"{item.reason}{item.excerpt}".encode()


def test_all_of_them_together_are_imported(home: Path) -> None:
    """One command over the folder: what is good is in the database, the rest has its reason."""
    out = invoke("ingest", CORPUS)
    assert out.exception is None or isinstance(out.exception, SystemExit), out.exception
    assert out.exit_code in (0, 3), out.output
    (count,) = rows(
        "select (select count(*) from traces) traces, (select count(*) from rejects) rejects"
    )
    assert int(str(count["traces"])) >= 10 and int(str(count["rejects"])) >= 5
