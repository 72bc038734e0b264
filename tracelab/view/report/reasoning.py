"""What the report shows of reasoning: sentences, their effects, the value curve, links, answers.

Contract: reads views for the traces of the temporary table `selected`; returns plain data, one map
a trace, ready for JSON. Numbers are rounded to what a person reads; what is NULL stays None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.text.categories import categorize

Key = tuple[str, str]
"""(run_id, trace_id)."""
Data = dict[str, Any]

ANSWERS_SHOWN = 12
"""Answers listed at a boundary; the rest are counted together."""
ANSWER_CHARS = 200

_UNITS = """
SELECT run_id, trace_id, unit_index, text, category, role, n_tokens, rollouts_started,
       generated_tokens
FROM trace_units JOIN selected USING (run_id, trace_id)
WHERE unit_kind = $kind ORDER BY position, unit_index
"""

_ANCHORS = """
SELECT run_id, trace_id, method, evidence, unit_index, value, lo, hi, n, status, level, p,
       p_adjusted, prob_matters, prob_decisive
FROM anchors JOIN selected USING (run_id, trace_id)
"""

_CURVES = """
SELECT run_id, trace_id, method, evidence, boundary, value, lo, hi, n, status, level
FROM value_curves JOIN selected USING (run_id, trace_id)
"""

_MORE = """
SELECT run_id, trace_id, unit_index, method, metric, value, lo, hi, n, status, p, p_adjusted,
       reason
FROM unit_scores JOIN selected USING (run_id, trace_id)
WHERE unit_kind = 'sentence' AND metric <> 'delta_value' AND target = ''
ORDER BY unit_index, method, metric
"""

_ANSWERS = """
SELECT run_id, trace_id, boundary, left(answer, $chars), n, mean_reward
FROM answer_distributions JOIN selected USING (run_id, trace_id)
WHERE unit_kind = 'sentence' ORDER BY run_id, trace_id, boundary, n DESC, answer
"""

_LINKS = """
SELECT run_id, trace_id, method, metric, from_index, to_index, value, lo, hi, n, p_adjusted
FROM (
    SELECT
        *,
        row_number() OVER (PARTITION BY run_id, trace_id, method, metric, from_index
                           ORDER BY abs(value) DESC, to_index) AS out_rank,
        row_number() OVER (PARTITION BY run_id, trace_id, method, metric, to_index
                           ORDER BY abs(value) DESC, from_index) AS in_rank
    FROM sentence_links JOIN selected USING (run_id, trace_id)
    WHERE status = 'ok' AND value IS NOT NULL
)
WHERE out_rank <= $most OR in_rank <= $most
ORDER BY run_id, trace_id, method, metric, abs(value) DESC, from_index, to_index
"""


def round_off(row: Iterable[Any]) -> list[Any]:
    """Floats of a row with four digits after the point, or four significant ones if small."""
    return [_short(v) if isinstance(v, float) else v for v in row]


def _short(value: float) -> float:
    return round(value, 4) if abs(value) >= 0.1 or value == 0 else float(f"{value:.3g}")


def read(con: DuckDBPyConnection) -> dict[Key, Data]:
    """The reasoning of every selected trace that has sentences.

    Returns:
        By trace: `sentences` [text, category, role, tokens, rollouts started, tokens generated];
        `methods` by name, each with `evidence`, `level` and a row a sentence [value, lo, hi, n,
        status, p, p_adjusted, prob_matters, prob_decisive] or None; `curves` likewise, a row a
        boundary [value, lo, hi, n, status]; `links`; `more`, the other metrics by sentence;
        `answers`, by boundary.
    """
    found: dict[Key, Data] = {}
    for run, trace, _, *unit in con.execute(_UNITS, {"kind": "sentence"}).fetchall():
        found.setdefault((run, trace), {"sentences": []})["sentences"].append(unit)
    for data in found.values():
        total = len(data["sentences"])
        for i, unit in enumerate(data["sentences"]):
            unit[1] = unit[1] or categorize(unit[0], index=i, total=total)
    _scores(con, _ANCHORS, "methods", found, 0)
    _scores(con, _CURVES, "curves", found, 1)
    for run, trace, index, *row in con.execute(_MORE).fetchall():
        if (run, trace) in found:
            more = found[run, trace].setdefault("more", {})
            more.setdefault(index, []).append(round_off(row))
    most = 5 if sum(len(d["sentences"]) for d in found.values()) <= 1500 else 3
    for run, trace, *row in con.execute(_LINKS, {"most": most}).fetchall():
        if (run, trace) in found:
            found[run, trace].setdefault("links", []).append(round_off(row))
    _answers(con, found)
    return found


def _scores(
    con: DuckDBPyConnection, sql: str, name: str, found: dict[Key, Data], beyond: int
) -> None:
    """Fill `name` with a row a unit; `beyond` is 1 where boundaries, not sentences, are counted."""
    for run, trace, method, evidence, index, *row in con.execute(sql).fetchall():
        if (run, trace) not in found:
            continue
        data = found[run, trace]
        # Levels of evidence are never mixed: each is a method of its own.
        key = method if evidence == "executed" else f"{method} ({evidence})"
        level = row.pop(5)
        size = len(data["sentences"]) + beyond
        entry = data.setdefault(name, {}).setdefault(
            key, {"evidence": evidence, "level": level, "rows": [None] * size}
        )
        if index < size:
            entry["rows"][index] = round_off(row)


def _answers(con: DuckDBPyConnection, found: dict[Key, Data]) -> None:
    """Answer distributions: `names`, mean `rewards` of each name, and by boundary [name, n]."""
    where: dict[Key, dict[int, list[tuple[str, int, float]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for run, trace, boundary, answer, n, reward in con.execute(
        _ANSWERS, {"chars": ANSWER_CHARS}
    ).fetchall():
        where[run, trace][boundary].append((answer, n, reward))
    for key, boundaries in where.items():
        if key not in found:
            continue
        names: dict[str, int] = {}
        rewards: dict[str, list[float]] = {}
        at: list[list[list[int]]] = [[] for _ in range(len(found[key]["sentences"]) + 1)]
        for boundary, rows in boundaries.items():
            if boundary >= len(at):
                continue
            shown = rows[:ANSWERS_SHOWN]
            at[boundary] = [[names.setdefault(a, len(names)), n] for a, n, _ in shown]
            for answer, n, reward in shown:
                total = rewards.setdefault(answer, [0.0, 0.0])
                total[0] += n * reward
                total[1] += n
            if rest := sum(n for _, n, _ in rows[ANSWERS_SHOWN:]):
                at[boundary].append([-1, rest])
        found[key]["answers"] = {
            "names": list(names),
            "rewards": round_off(rewards[a][0] / rewards[a][1] for a in names),
            "at": at,
        }
