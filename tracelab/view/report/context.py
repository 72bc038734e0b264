"""What the report shows of contexts: statements, the spans they rest on, labels, faithfulness.

Contract: reads views for the traces of the temporary table `selected`; returns plain data, one map
a trace, ready for JSON. Places are turned into pieces of text here, because JavaScript counts
characters otherwise than Python and the warehouse do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.view.report.reasoning import Data, Key, round_off

Piece = list[Any]
"""[text, index of the span or statement it is, or None for what lies between]."""

_SPANS = """
SELECT run_id, trace_id, unit_index, turn_index, start_char, end_char, text, role, document
FROM trace_units JOIN selected USING (run_id, trace_id)
WHERE unit_kind = 'span' ORDER BY position, unit_index
"""

_STATEMENTS = """
SELECT DISTINCT ON (run_id, trace_id, target)
    run_id, trace_id, target, position, statement, label, logprob_full, logprob_empty,
    logprob_alone, parametric, ablations
FROM grounding JOIN (SELECT run_id, trace_id FROM selected) USING (run_id, trace_id)
ORDER BY run_id, trace_id, position
"""

_TESTS = """
SELECT run_id, trace_id, target, method, supporting, lds, oof_lds, top_1_drop
FROM grounding JOIN selected USING (run_id, trace_id) WHERE method IS NOT NULL
"""

_EFFECTS = """
SELECT run_id, trace_id, target, method, unit_index, value, lo, hi, n, status, level
FROM context_effects JOIN selected USING (run_id, trace_id)
ORDER BY run_id, trace_id, method, context_effects.position, unit_index
"""

FAITHFULNESS = """
SELECT
    method,
    metric,
    median(value) AS median,
    quantile_cont(value, 0.25) AS lower,
    quantile_cont(value, 0.75) AS upper,
    count(value) AS measured,
    count(*) AS statements
FROM faithfulness WHERE run_id = $run GROUP BY ALL ORDER BY method, metric
"""

LABELS = """
SELECT label, count(DISTINCT (trace_id, target)) AS statements
FROM grounding WHERE run_id = $run GROUP BY ALL ORDER BY statements DESC, label
"""


def read(con: DuckDBPyConnection, messages: dict[Key, list[list[Any]]]) -> dict[Key, Data]:
    """The contexts of the selected traces that have spans or explained statements.

    Args:
        con: An open reader with the table `selected`.
        messages: By trace, its messages [role, name, text], the response last.

    Returns:
        By trace: `spans` [role, document, message, text if it has no place in its message];
        `heads` [role, name] and `context`, the pieces, of every message but the last;
        `response`, its pieces; `statements` [target, text, label, log p with context, without,
        alone, parametric, ablations, placed]; and `effects`, by method a map of `level`, `tests` by
        statement [supporting, lds, oof_lds, top_1_drop], and `rows` by statement and span [value,
        lo, hi, n, status] or None.
    """
    spans: dict[Key, list[tuple[Any, ...]]] = {}
    for run, trace, *span in con.execute(_SPANS).fetchall():
        spans.setdefault((run, trace), []).append(tuple(span))
    found: dict[Key, Data] = {}
    order: dict[tuple[str, str, str], int] = {}
    for run, trace, target, _, text, *rest in con.execute(_STATEMENTS).fetchall():
        data = found.setdefault((run, trace), {"statements": []})
        order[run, trace, target] = len(data["statements"])
        data["statements"].append([target, text, *round_off(rest)])
    for key in spans:
        found.setdefault(key, {"statements": []})
    for key, data in found.items():
        _place(data, spans.get(key, []), messages.get(key, []))
        data["effects"] = {}
    for run, trace, target, method, index, *row in con.execute(_EFFECTS).fetchall():
        data = found[run, trace]
        entry = _entry(data, method, row.pop())
        entry["rows"][order[run, trace, target]][index] = round_off(row)
    for run, trace, target, method, *test in con.execute(_TESTS).fetchall():
        data = found[run, trace]
        if method in data["effects"]:
            data["effects"][method]["tests"][order[run, trace, target]] = round_off(test)
    return found


def _entry(data: Data, method: str, level: float) -> Data:
    """What a method says about a trace, made when it first says something."""
    empty = {
        "level": level,
        "tests": [None] * len(data["statements"]),
        "rows": [[None] * len(data["spans"]) for _ in data["statements"]],
    }
    entry: Data = data["effects"].setdefault(method, empty)
    return entry


def _place(data: Data, spans: Sequence[tuple[Any, ...]], messages: Sequence[list[Any]]) -> None:
    """Cut the messages into pieces, and the response into statements and what is between."""
    if data["statements"] and any(s[1] == len(messages) - 1 for s in spans):
        # An agent's step: what it was given stands in the transcript, and it is the response.
        messages = [*messages, ["assistant", None, data["statements"][0][1]]]
    data["spans"] = []
    data["heads"] = [[role, name] for role, name, _ in messages[:-1]]
    data["context"] = []
    for turn, (_, _, text) in enumerate(messages[:-1]):
        here = [
            (s[2], s[3], s[0]) for s in spans if s[1] == turn and text[s[2] : s[3]] == s[4]
        ]  # a message with tool calls is more than its text
        data["context"].append(_pieces(text, here))
    placed = {piece[1] for message in data["context"] for piece in message}
    for index, turn, _, _, text, role, document in spans:
        data["spans"].append([role, document, turn, None if index in placed else text])
    response, at = messages[-1][2] if messages else "", 0
    cuts: list[tuple[int, int, int]] = []
    for i, statement in enumerate(data["statements"]):
        start = response.find(statement[1], at) if statement[1] else -1
        if start < 0 and statement[0].startswith(("response", "range")):
            start = response.find(statement[1]) if not cuts else -1
        statement.append(start >= 0)
        if start >= 0:
            at = start + len(statement[1])
            cuts.append((start, at, i))
    data["response"] = _pieces(response, cuts)


def _pieces(text: str, cuts: Iterable[tuple[int, int, int]]) -> list[Piece]:
    """The text in order, in pieces that join to it; of two cuts that overlap, the first stays."""
    pieces: list[Piece] = []
    at = 0
    for start, end, index in sorted(cuts):
        if start < at:
            continue
        if start > at:
            pieces.append([text[at:start], None])
        pieces.append([text[start:end], index])
        at = end
    if at < len(text):
        pieces.append([text[at:], None])
    return pieces
