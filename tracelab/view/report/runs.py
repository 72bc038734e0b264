"""What the report shows of a run: where its numbers come from, what they cost, what failed.

Contract: reads views; returns plain data, a map a run, for the page's template. A section whose
data do not exist is empty, and the page says so.
"""

from __future__ import annotations

import json
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.store.query import query
from tracelab.view.report.agents import EVIDENCE, VERDICTS
from tracelab.view.report.context import FAITHFULNESS, LABELS

TOP = 15
"""Sentences in a run's ranking."""

PREFERRED = ("resample-pooled", "resample", "counterfactual", "force")
"""The method that is shown first, of those a run has."""

_METHODS = (
    "SELECT DISTINCT method FROM anchors WHERE run_id = $run AND evidence IN ('executed', 'judged')"
)

_ANCHORS = """
SELECT trace_id, trace_name, unit_index, text, value, lo, hi, n, level, p_adjusted_run,
       prob_matters, prob_decisive
FROM anchors
WHERE run_id = $run AND method = $method AND evidence IN ('executed', 'judged') AND status = 'ok'
ORDER BY abs(value) DESC, trace_name, unit_index LIMIT $limit
"""

_STATUSES = """
SELECT status, count(*) AS sentences FROM anchors
WHERE run_id = $run AND method = $method AND evidence IN ('executed', 'judged')
GROUP BY status ORDER BY sentences DESC, status
"""


_OTHERS = """
SELECT t.model, count(*) AS traces
FROM traces AS t INNER JOIN runs AS r ON t.run_id = r.run_id
WHERE t.run_id = $run AND t.off_policy
    AND coalesce(r.config ->> '$.source_options.off_policy', 'warn') = 'warn'
GROUP BY t.model ORDER BY traces DESC, t.model
"""


def rows(con: DuckDBPyConnection, sql: str, **params: Any) -> list[dict[str, Any]]:
    """The rows of a query as maps."""
    found: list[dict[str, Any]] = query(con, sql, params).to_pylist()
    return found


def preferred(methods: list[str]) -> str | None:
    """The method to show first."""
    known = [m for m in PREFERRED if m in methods]
    return known[0] if known else min(methods, default=None)


def read(con: DuckDBPyConnection, run: str) -> dict[str, Any]:
    """Everything about one run.

    Args:
        con: An open reader.
        run: Its id.

    Returns:
        `run` (as `run_provenance`, JSON parsed), `costs` (as `run_costs`), `method`, `anchors`,
        `statuses`, `failures`, `rejects`, `labels`, `faithfulness`; by level of evidence, the
        strongest first, `verdicts` and `blame`; `off_policy` (other models that made traces, with
        their number, unless that is meant).
    """
    (provenance,) = rows(con, "SELECT * FROM run_provenance WHERE run_id = $run", run=run)
    for name in ("config", "versions"):
        provenance[name] = json.loads(provenance[name])
    costs = rows(con, "SELECT * FROM run_costs WHERE run_id = $run", run=run)
    method = preferred([r["method"] for r in rows(con, _METHODS, run=run)])
    ranked = {"run": run, "method": method}
    return {
        "run": provenance,
        "costs": costs[0],
        "method": method,
        "anchors": rows(con, _ANCHORS, **ranked, limit=TOP) if method else [],
        "statuses": rows(con, _STATUSES, **ranked) if method else [],
        "failures": [r for r in rows(con, "failures", run=run) if r["kind"] != "rejected"],
        "rejects": rows(con, "SELECT * FROM rejected_inputs WHERE run_id = $run", run=run),
        "labels": rows(con, LABELS, run=run),
        "faithfulness": rows(con, FAITHFULNESS, run=run),
        "verdicts": _by_evidence(rows(con, VERDICTS, run=run)),
        "blame": _by_evidence(_optional(con, "blame", run)),
        "off_policy": rows(con, _OTHERS, run=run),
    }


def _by_evidence(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows apart by their level of evidence: what was executed and judged is never one list."""
    apart: dict[str, list[dict[str, Any]]] = {level: [] for level in EVIDENCE}
    for row in found:
        apart[row.pop("evidence")].append(row)
    return {level: kept for level, kept in apart.items() if kept}


def _optional(con: DuckDBPyConnection, view: str, run: str) -> list[dict[str, Any]]:
    """Rows of a view that an older warehouse may not have."""
    there = rows(con, "SELECT 1 FROM duckdb_views() WHERE view_name = $view", view=view)
    return rows(con, f'SELECT * EXCLUDE (run_id) FROM "{view}" WHERE run_id = $run', run=run) \
        if there else []  # fmt: skip
