"""What the report shows of agents: the timeline, V_t, and who is to blame with what evidence.

Contract: reads views for the traces of the temporary table `selected`; returns plain data, one map
a trace, ready for JSON. A verdict is shown at its own level of evidence, never mixed with others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.view.report.reasoning import Data, Key, round_off

EVIDENCE: dict[str, str] = {
    "executed": "steps or sentences were written anew and carried on to the end",
    "replayed": "steps were written anew, and recorded tool results answered them",
    "scored": "log-probabilities only; nothing was written anew",
    "judged": "the opinion of a model; nothing was measured",
    "rule": "a rule that reads the log; no model was asked, nothing was measured",
}
"""Levels of evidence, the strongest first, and what stands behind each; rules are apart."""

_LEVEL = "CASE WHEN starts_with(method, 'rule:') THEN 'rule' ELSE evidence END"
_RANK = f"list_position({[*EVIDENCE]}, {_LEVEL})"

STATUSES: dict[str, str] = {
    "localized": "one step decided the failure",
    "ambiguous": "several steps may have decided it; the credible set says which",
    "unidentifiable": "no single step changed the chance of success",
    "nonreproducible": "the recorded actions, executed again, did not give the recorded outcome",
}
"""What each status of a verdict says."""


_STEPS = """
SELECT u.run_id, u.trace_id, u.unit_index, u.text, s.agent, coalesce(s.kind, 'system'), s.tool,
       s.flags
FROM trace_units AS u JOIN selected USING (run_id, trace_id)
LEFT JOIN steps AS s USING (run_id, trace_id, unit_index)
WHERE u.unit_kind = 'step' ORDER BY position, u.unit_index
"""

_CALLS = """
SELECT run_id, trace_id, unit_index, tool, arguments, arguments_error, result_step, result, error
FROM tool_calls JOIN selected USING (run_id, trace_id) ORDER BY run_id, trace_id, unit_index,
    tool_calls.position
"""

_SCORES = f"""
SELECT run_id, trace_id, unit_index, method, metric, {_LEVEL}, value, lo, hi, n, status, level
FROM unit_scores JOIN selected USING (run_id, trace_id)
WHERE unit_kind = 'step' AND target = ''
ORDER BY unit_index, {_RANK},
         ends_with(method, '-pooled') DESC, method, metric
"""

_CURVES = """
SELECT run_id, trace_id, method, evidence, boundary, value, lo, hi, n, status, level
FROM value_curves JOIN selected USING (run_id, trace_id)
ORDER BY list_position(['executed', 'replayed', 'scored', 'judged'], evidence),
         ends_with(method, '-pooled') DESC, method
"""

_VERDICTS = f"""
SELECT run_id, trace_id, method, {_LEVEL} AS evidence, status, decisive_step, agent, tool, who,
       reason, posterior, credible_set, runner_up, correctable_step, counterfactual, rollouts,
       tokens, recorded, came_instead, extra
FROM verdicts JOIN selected USING (run_id, trace_id)
ORDER BY position, {_RANK}, method
"""

_LABELS = """
SELECT run_id, trace_id, label_step, label_agent, label_reason
FROM episodes JOIN selected USING (run_id, trace_id) WHERE label_step IS NOT NULL
"""

VERDICTS = f"""
SELECT {_LEVEL} AS evidence, method, status, count(*) AS verdicts
FROM verdicts WHERE run_id = $run GROUP BY ALL ORDER BY evidence, method, verdicts DESC, status
"""


def read(con: DuckDBPyConnection) -> dict[Key, Data]:
    """The audits of the selected traces that have steps.

    Returns:
        By trace: `steps`, a map each: `who`, `kind`, `tool`, `flags`, `text` (what it says besides
        calls and results), `calls` [tool, arguments, why they are not JSON, step of the result or
        None] and, of a tool's step, `result` [text or None, whether it is an error], with the
        `arguments` of its call; `label` [step, agent, reason] as annotated, where there is one;
        `scores` by step [method, metric, evidence, value, lo, hi, n, status, level]; `curves` by
        method and evidence, rows by boundary [value, lo, hi, n, status], or None where no model
        took a step; and `verdicts`, a map each, with the columns of the table `verdicts`.
    """
    found: dict[Key, Data] = {}
    calls: dict[Key, list[tuple[Any, ...]]] = {}
    for run, trace, *call in con.execute(_CALLS).fetchall():
        calls.setdefault((run, trace), []).append(tuple(call))
    for run, trace, _, text, agent, kind, tool, flags in con.execute(_STEPS).fetchall():
        data = found.setdefault((run, trace), {"steps": [], "scores": {}, "curves": {}})
        step = {"who": agent, "kind": kind, "tool": tool, "flags": _json(flags) or [], "text": text}
        data["steps"].append(step)
    for key, data in found.items():
        _take_apart(data["steps"], calls.get(key, []))
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


def _take_apart(steps: Sequence[Data], calls: Sequence[tuple[Any, ...]]) -> None:
    """Turn the transcript of each step into what it says, its calls, and its result.

    The transcript is `Episode.step_units`, of which the table `tool_calls` holds the parts: they
    are taken off exactly as they were put on. A transcript that is not made of them stays whole.
    """
    answers: dict[int, tuple[Any, ...]] = {}
    for i, tool, arguments, error, result_step, result, failed in calls:
        if result_step is not None:
            answers[result_step] = (tool, arguments, result, failed)
        if 0 <= i < len(steps) and steps[i]["kind"] != "tool":
            call = [tool, arguments, error, result_step]
            steps[i].setdefault("calls", []).append(call)
    for i, step in enumerate(steps):
        text = step["text"]
        if step["kind"] == "tool" and i in answers:
            tool, arguments, result, failed = answers[i]
            step["result"], step["arguments"] = [result, failed], arguments
            called = [step["tool"] or "tool"]
            called = [*([] if arguments is None else [f"{called[0]}({arguments})"]), *called]
            heads = [f"{step['who']} \u00b7 {c}: " for c in called] + [f"{c}: " for c in called]
            said = _without(text, heads, [""])
            whole = "[no result was recorded]" if result is None else result
            step["text"] = "" if said is None or said == whole else said
            continue
        made = "\n".join(f"[call {c[0]} {c[1]}]" for c in step.get("calls", ()))
        tails = [f"\n{made}", made] if made else [""]
        said = _without(text, [f"{step['who'] or step['kind']}: "], tails)
        step["text"] = text if said is None else said


def _without(text: str, heads: Sequence[str], tails: Sequence[str]) -> str | None:
    """A transcript without its head and its tail; None where it does not have them."""
    head = next((h for h in heads if text.startswith(h)), None)
    said = None if head is None else text[len(head) :].removesuffix("\n\n")
    if said is None or (tail := next((t for t in tails if said.endswith(t)), None)) is None:
        return None
    return said[: len(said) - len(tail)]


def _json(text: str | None) -> Any:
    return None if text is None else json.loads(text)
