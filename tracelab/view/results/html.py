"""Results as HTML for notebooks: one element that carries its style, no script, no link.

Traces are hostile text: every text goes through the template's escapes, and a control character or
a direction override is shown as a mark. Only numbers computed here reach a style.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from tracelab.view.report.page import environment, signed
from tracelab.view.results.result import in_notebooks
from tracelab.view.results.sentences import AnchorsResult
from tracelab.view.results.spans import UNITS, CiteResult, Statement
from tracelab.view.results.steps import AuditResult, NamedStep

MOST_TRACES = 5
"""Traces shown; the report shows all."""
_MOST_UNITS = 400
_MOST_CHARS = 1_500
_FDR = 0.1
_LEAST_SCALE = 0.2  # an effect of this size or more gets the full tint
_UP, _DOWN = "156,196,238", "245,176,122"
"""The report's colours of what raises and what lowers."""


@in_notebooks(AnchorsResult)
def of_anchors(found: AnchorsResult) -> str:
    """Sentences tinted by signed effect, hatched where nothing could be measured."""
    shown = [r for r in found.rows if r.method == found.method and r.evidence == "executed"]
    raw = {(r.trace_id, r.unit_index): r for r in found.rows if r.method == "resample"}
    asked = {t.trace_id: t for t in found.traces}
    cards = []
    for trace_id, rows in _by(shown, "trace_id"):
        scale = max([_LEAST_SCALE, *(abs(r.value) for r in rows if r.value is not None)])
        units = []
        for r in rows[:_MOST_UNITS]:
            plain = raw.get((trace_id, r.unit_index), r)
            fdr = plain.p_adjusted is not None and plain.p_adjusted <= _FDR
            said = "" if r.value is None else f", {_interval(r.lo, r.hi)}"
            units.append(
                _unit(r, r.text, r.value, scale) | {
                    "class": f"{'none' if r.value is None else ''} {'fdr' if fdr else ''}".strip(),
                    "title": f"{signed(r.value)}{said}, n = {r.n}, {r.status}",
                }
            )  # fmt: skip
        head = asked.get(trace_id)
        cards.append(
            {
                "name": rows[0].trace_name or trace_id, "question": head and _cut(head.text),
                "answer": head and head.answer, "reference": head and head.reference,
                "units": units, "left": max(0, len(rows) - _MOST_UNITS),
                "top": sorted(units, key=lambda u: -abs(u["value"] or 0.0))[:3],
            }
        )  # fmt: skip
    level = shown[0].level if shown else 0.95
    return _render("anchors.html.j2", found, cards, method=found.method, level=level)


@in_notebooks(CiteResult)
def of_cite(found: CiteResult) -> str:
    """Each context's spans tinted by their strongest effect, and what each statement rests on."""
    method = next((r.method for r in found.rows if r.method == "ablate"), None) or next(
        (r.method for r in found.rows), None
    )
    effects = [r for r in found.rows if r.method == method]
    cards = []
    for trace_id, statements in _by(found.statements, "trace_id"):
        own = [r for r in effects if r.trace_id == trace_id]
        strongest: dict[int, Any] = {}
        for r in sorted(own, key=lambda r: abs(r.value or 0.0)):
            strongest[r.unit_index] = r
        scale = max([_LEAST_SCALE, *(abs(r.value) for r in own if r.value is not None)])
        spans = [
            _unit(r, r.span, r.value, scale) | {
                "class": "none" if r.value is None else "",
                "title": f"{signed(r.value)}{_unit_of(r.outcome)}, {_interval(r.lo, r.hi)}, "
                f"{r.status}",
            }
            for _, r in sorted(strongest.items())[:_MOST_UNITS]
        ]  # fmt: skip
        cards.append(
            {
                "name": statements[0].trace_name or trace_id, "units": spans,
                "unit": _unit_of(statements[0].outcome),
                "left": max(0, len(strongest) - _MOST_UNITS),
                "statements": [_statement(s) for s in statements if s.method in (method, None)],
            }
        )  # fmt: skip
    level = effects[0].level if effects else 0.95
    unit = UNITS[effects[0].outcome if effects else "logprob"]
    return _render("cite.html.j2", found, cards, method=method, level=level, unit=unit)


def _unit_of(outcome: str) -> str:
    return " nats" if outcome == "logprob" else ""


def _statement(s: Statement) -> dict[str, Any]:
    rests = s.label in ("grounded", "diffuse") and s.top_value is not None
    return {
        "text": _cut(s.statement), "label": s.label,
        "top": _cut(s.top_span or "") if rests else None, "value": s.top_value,
        "index": s.top_index, "interval": _interval(s.top_lo, s.top_hi),
    }  # fmt: skip


@in_notebooks(AuditResult)
def of_audit(found: AuditResult) -> str:
    """Each run's verdict and its steps, tinted by the probability that they decided it."""
    cards = []
    for v in found.rows:
        numbers = {
            s.unit_index: s for s in found.steps
            if s.trace_id == v.trace_id and (s.method, s.evidence) == (v.method, v.evidence)
        }  # fmt: skip
        steps = {s.unit_index: s for s in found.steps if s.trace_id == v.trace_id} | numbers
        units = []
        for i, s in sorted(steps.items())[:_MOST_UNITS]:
            measured = numbers.get(i)
            p = None if measured is None else measured.p_decisive
            units.append(
                _unit(s, s.text, None if p is None else -p, 1.0) | {
                    "class": "fdr" if i in v.credible_set else "",
                    "who": s.agent or s.kind, "p": p,
                    "title": "not measured" if p is None else f"probability {p:.2f}",
                }
            )  # fmt: skip
        cards.append({"name": v.trace_name or v.trace_id, "verdict": v, "units": units,
                      "left": max(0, len(steps) - _MOST_UNITS)})  # fmt: skip
    texts = {(s.trace_id, s.unit_index): _cut(s.text) for s in found.steps}
    for about, said in (("rules", found.rules), ("judges", found.opinions)):
        by: dict[str, list[NamedStep]] = {}
        for n in said:
            by.setdefault(n.trace_id, []).append(n)
        for trace_id, mine in by.items():
            cards.append({
                "name": mine[0].trace_name or trace_id, "verdict": None, "about": about,
                "left": 0,
                "named": [
                    {"method": n.method.partition(":")[2], "step": n.step, "agent": n.agent,
                     "reason": n.reason,
                     "text": None if n.step is None else texts.get((trace_id, n.step))}
                    for n in mine
                ],
            })  # fmt: skip
    return _render("audit.html.j2", found, cards)


def _render(template: str, found: Any, cards: Sequence[dict[str, Any]], **more: Any) -> str:
    return environment("tracelab.view").get_template(template).render(
        found=found, cards=cards[:MOST_TRACES], more=max(0, len(cards) - MOST_TRACES), **more
    )  # fmt: skip


def _unit(row: Any, text: str, value: float | None, scale: float) -> dict[str, Any]:
    share = 0.0 if value is None else min(1.0, abs(value) / scale)
    colour = _UP if (value or 0.0) > 0 else _DOWN
    tint = f"rgba({colour},{share:.2f})" if share >= 0.05 else ""
    return {"index": row.unit_index, "text": _cut(text), "value": value, "tint": tint,
            "interval": _interval(getattr(row, "lo", None), getattr(row, "hi", None))}  # fmt: skip


def _by(rows: Iterable[Any], name: str) -> list[tuple[Any, list[Any]]]:
    return [(key, list(group)) for key, group in groupby(rows, lambda r: getattr(r, name))]


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARS else f"{text[:_MOST_CHARS]}… ({len(text):,} characters)"


def _interval(lo: float | None, hi: float | None) -> str:
    return "no interval" if lo is None or hi is None else f"{signed(lo)} to {signed(hi)}"
