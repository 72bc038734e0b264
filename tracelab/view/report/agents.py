"""What the report shows of agents: the timeline, V_t, and who is to blame with what evidence.

Contract: reads views for the traces of the temporary table `selected`; returns plain data, one map
a trace, ready for JSON. A verdict is shown at its own level of evidence, never mixed with others.
"""

from __future__ import annotations

import json
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.view.report.reasoning import Data, Key, round_off

_STEPS = """
SELECT u.run_id, u.trace_id, u.unit_index, u.text, s.agent, s.kind, s.tool, s.flags
FROM trace_units AS u JOIN selected USING (run_id, trace_id)
LEFT JOIN steps AS s USING (run_id, trace_id, unit_index)
WHERE u.unit_kind = 'step' ORDER BY position, u.unit_index
"""

_SCORES = """
SELECT run_id, trace_id, unit_index, method, metric, evidence, value, lo, hi, n, status, level
FROM unit_scores JOIN selected USING (run_id, trace_id)
WHERE unit_kind = 'step' AND target = ''
ORDER BY unit_index, list_position(['executed', 'replayed', 'scored', 'judged'], evidence),
         ends_with(method, '-pooled') DESC, method, metric
"""

_CURVES = """
SELECT run_id, trace_id, method, evidence, boundary, value, lo, hi, n, status, level
FROM value_curves JOIN selected USING (run_id, trace_id)
ORDER BY list_position(['executed', 'replayed', 'scored', 'judged'], evidence),
         ends_with(method, '-pooled') DESC, method
"""

_VERDICTS = """
SELECT run_id, trace_id, method, evidence, status, decisive_step, agent, tool, who, reason,
       posterior, credible_set, runner_up, correctable_step, counterfactual, rollouts, tokens, extra
FROM verdicts JOIN selected USING (run_id, trace_id)
ORDER BY position, list_position(['executed', 'replayed', 'scored', 'judged'], evidence), method
"""

_LABELS = """
SELECT run_id, trace_id, label_step, label_agent, label_reason
FROM episodes JOIN selected USING (run_id, trace_id) WHERE label_step IS NOT NULL
"""

VERDICTS = """
SELECT method, evidence, status, count(*) AS verdicts
FROM verdicts WHERE run_id = $run GROUP BY ALL ORDER BY verdicts DESC, method, evidence, status
"""

_SPEAKER_CHARS = 60


def read(con: DuckDBPyConnection) -> dict[Key, Data]:
    """The audits of the selected traces that have steps.

    Returns:
        By trace: `steps` [speaker, text, kind, tool, flags]; `label` [step, agent, reason] as
        annotated, where there is one; `scores` by step [method, metric, evidence, value,
        lo, hi, n, status, level]; `curves` by method and evidence, rows by boundary [value, lo,
        hi, n, status]; and `verdicts`, a map each, with the columns of the table `verdicts`.
    """
    found: dict[Key, Data] = {}
    for run, trace, _, text, agent, kind, tool, flags in con.execute(_STEPS).fetchall():
        data = found.setdefault((run, trace), {"steps": [], "scores": {}, "curves": {}})
        who, said = _speaker(text)
        data["steps"].append([agent or who, said, kind, tool, _json(flags) or []])
    for run, trace, *label in con.execute(_LABELS).fetchall():
        if (run, trace) in found:
            found[run, trace]["label"] = label
    for run, trace, index, *row in con.execute(_SCORES).fetchall():
        if (run, trace) in found:
            found[run, trace]["scores"].setdefault(index, []).append(round_off(row))
    for run, trace, method, evidence, index, *row in con.execute(_CURVES).fetchall():
        if (run, trace) not in found:
            continue
        data = found[run, trace]
        level = row.pop()
        size = len(data["steps"]) + 1
        entry = data["curves"].setdefault(
            f"{method}, {evidence}",
            {"evidence": evidence, "level": level, "rows": [None] * size},
        )
        if index < size:
            entry["rows"][index] = round_off(row)
    cursor = con.execute(_VERDICTS)
    names = [column[0] for column in cursor.description]
    for found_row in cursor.fetchall():
        verdict = dict(zip(names, found_row, strict=True))
        key = (verdict.pop("run_id"), verdict.pop("trace_id"))
        for name in ("credible_set", "extra"):
            verdict[name] = _json(verdict[name])
        if key in found:
            found[key].setdefault("verdicts", []).append(verdict)
    return found


def _speaker(text: str) -> tuple[str, str]:
    """A step's transcript `who: what` in two."""
    who, colon, said = text.partition(": ")
    if not colon or len(who) > _SPEAKER_CHARS or "\n" in who:
        return "", text
    return who, said.removesuffix("\n\n")


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
