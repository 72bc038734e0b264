"""What a citation came to, record by record: as lines for a person, as objects for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.text import Text

from tracelab.studies.cite.grounding import MEANING
from tracelab.text.clean import clean
from tracelab.view.results.spans import (
    UNITS,
    Answered,
    CiteResult,
    Effect,
    MethodSays,
    Pruned,
    Statement,
)

EFFECTS = "ablate"
"""The method whose effects are shown."""
_LOOKING = ("attention", "at2")
_CITED = "llm-cites"
_SHADES = ("", "on #fff6d6", "on #ffe9a8", "on #ffd873", "on #ffc13d")
"""Background of a span by its share of the strongest effect; dark text is set with it."""
_LABELS = {
    "grounded": "green",
    "diffuse": "cyan",
    "memory": "yellow",
    "derived": "blue",
    "parametric": "yellow",
    "ungrounded": "red",
    "insufficient": "dim",
}
_SUPPORTED = ("grounded", "diffuse")
_TOP = 3
_PART = 0.1
"""Smaller interactions, as a share of all that the context does, are left to `--json`."""


class Record:
    """One context with its response, and all that was found of it."""

    def __init__(self, found: CiteResult, answered: Answered) -> None:
        """Take what is about it out of a result."""
        trace = answered.trace_id
        self.answered = answered
        self.spans = [s for s in found.spans if s.trace_id == trace]
        effects = [e for e in found.rows if e.trace_id == trace and e.method == EFFECTS]
        self.effects = sorted(effects, key=lambda e: e.unit_index)
        statements: dict[str, Statement] = {}
        for s in found.statements:
            if s.trace_id == trace and (s.target not in statements or s.method == EFFECTS):
                statements[s.target] = s
        self.statements = [*statements.values()]
        self.said = [s for s in found.said if s.trace_id == trace]
        self.pruned = next((p for p in found.pruned if p.trace_id == trace), None)
        self.quality: dict[str, dict[str, float | None]] = {t: {} for t in statements}
        for t in found.tests:
            if t.trace_id == trace and t.method not in (*_LOOKING, _CITED):
                self.quality[t.target].setdefault(t.metric, t.value)

    def to_json(self) -> dict[str, Any]:
        """The record as one object; numbers that could not be measured are null."""
        return {
            "response": self.answered.response,
            "ablation": self.answered.ablation,
            "notes": [] if self.answered.note is None else [self.answered.note],
            "spans": [{"span": s.unit_index, "text": s.text, "role": s.role} for s in self.spans],
            "targets": [
                {
                    "target": t.target, "text": t.statement, "rather_than": t.rather_than,
                    "label": t.label, "logprob_full": t.logprob_full,
                    "logprob_empty": t.logprob_empty, "logprob_alone": t.logprob_alone,
                    "outcome": t.outcome, "value_full": t.value_full,
                    "value_empty": t.value_empty,
                    "ablations": t.ablations,
                    **self.quality[t.target],
                    "spans": [
                        {"span": e.unit_index, "value": e.value, "lo": e.lo, "hi": e.hi,
                         "status": e.status}
                        for e in self._of(t.target)
                    ],
                    "methods": self._others(t.target),
                }
                for t in self.statements
            ],
            "pruned": None if self.pruned is None else _pruned_json(self.pruned),
        }  # fmt: skip

    def lines(self) -> Iterator[Text]:
        """What a person reads: the context, tinted; each statement with what it rests on."""
        strength = {s.unit_index: 0.0 for s in self.spans}
        for e in self.effects:
            if _shown(e):
                strength[e.unit_index] = max(strength[e.unit_index], e.value or 0.0)
        most = max(strength.values(), default=0.0)
        yield Text("context", style="bold")
        for s in self.spans:
            share = strength[s.unit_index] / most if most else 0.0
            shade = _SHADES[min(int(share * (len(_SHADES) - 1) + 0.999), len(_SHADES) - 1)]
            line = Text(f"{s.unit_index:>4} ")
            line.append(clean(s.text.strip()), style=f"black {shade}" if shade else "")
            yield line
        yield Text("")
        yield Text("response", style="bold")
        for t in self.statements:
            yield from self._statement(t)
        if self.pruned is not None:
            yield from _pruned(self.pruned)
        yield Text("")
        for name in dict.fromkeys(t.label for t in self.statements):
            yield Text(f"{name}: {MEANING[name]}", style="dim")
        yield Text(self._footer(), style="dim")
        if self.answered.note is not None:
            yield Text(clean(self.answered.note), style="dim")

    def _of(self, target: str) -> list[Effect]:
        return [e for e in self.effects if e.target == target]

    def _others(self, target: str) -> list[dict[str, Any]]:
        """What the methods besides the effects say about one statement."""
        return [
            {"method": s.method, "metric": s.metric, "span": s.unit_index, "value": s.value,
             "lo": s.lo, "hi": s.hi, "status": s.status, **json.loads(s.extra)}
            for s in self.said
            if s.target == target
        ]  # fmt: skip

    def _statement(self, t: Statement) -> Iterator[Text]:
        line = Text(f"{t.label:<12}", style=_LABELS[t.label])
        line.append(clean(t.statement.strip()) or "(white space)", style="bold")
        if t.rather_than is not None:
            line.append(f"  rather than  {clean(t.rather_than.strip())}", style="bold")
        yield line
        said = [s for s in self.said if s.target == t.target]
        supported = t.label in _SUPPORTED
        if supported:
            shown = [e for e in self._of(t.target) if _shown(e)]
            for e in sorted(shown, key=lambda e: -(e.value or 0.0))[:_TOP]:
                digits = 1 if e.outcome == "logprob" else 2
                interval = f"[{e.lo:+.{digits}f}, {e.hi:+.{digits}f}]"
                text = clean(e.span.strip())
                yield Text(f"{'':12}{e.value:+7.{digits}f} {interval:<16} {e.unit_index:>3} {text}")
        enough = [s for s in said if s.metric == "member"]
        if enough:
            spans = ", ".join(str(s.unit_index) for s in enough if s.value) or "none"
            reached = json.loads(enough[0].extra).get("reached", True)
            yield Text(f"{'':12}enough: {spans}" + ("" if reached else " (not reached)"))
        # What a model says, or looks at, while it writes from memory says nothing to a reader.
        if supported and (cited := [s for s in said if s.method == _CITED]):
            yield Text(f"{'':12}{_CITED}: {clean(_cited(cited))}")
        yield from self._rest(t, said)

    def _rest(self, t: Statement, said: Sequence[MethodSays]) -> Iterator[Text]:
        """Interactions, what is looked at most, and Shapley values above 0."""
        best: dict[str, MethodSays] = {}
        for s in said:
            if s.method in _LOOKING and s.value is not None:
                before = best.get(s.method)
                if before is None or s.value > (before.value or 0.0):
                    best[s.method] = s
        least = _PART * ((t.logprob_full or 0.0) - (t.logprob_empty or 0.0))
        for s in said:
            extra = json.loads(s.extra)
            kind = extra.get("kind")
            if kind in ("joint", "redundant") and s.value is not None and abs(s.value) >= least:
                how = "need each other" if kind == "joint" else "replace each other"
                yield Text(f"{'':12}{s.unit_index} and {extra['other']} {how} ({s.value:+.1f})")
            elif t.label in _SUPPORTED and best.get(s.method) is s:
                yield Text(f"{'':12}{s.method:<10}{s.value:+.3f} {s.unit_index:>3}")
            elif s.method == "shapley" and s.lo is not None and s.lo > 0:
                yield Text(f"{'':12}Shapley {s.value:+.1f} [{s.lo:+.1f}, {s.hi:+.1f}] "
                           f"{s.unit_index:>3}")  # fmt: skip

    def _footer(self) -> str:
        supported = [t.target for t in self.statements if t.label in _SUPPORTED]
        parts = []
        for metric, name in (("lds", "LDS on fresh ablations"), ("oof_lds", "out of fold")):
            values = [v for t in supported if (v := self.quality[t].get(metric)) is not None]
            mean = f"{sum(values) / len(values):.2f}" if values else "not measured"
            parts.append(f"{name} {mean}")
        used = min((t.ablations for t in self.statements), default=0)
        level = self.effects[0].level if self.effects else 0.95
        outcome = self.statements[0].outcome if self.statements else "logprob"
        return (
            f"effects {UNITS[outcome]}, {100 * level:.3g} % intervals; {used} ablations; "
            f"{', '.join(parts)} (mean over statements that the context supports)"
        )


def records(found: CiteResult) -> list[Record]:
    """The records of a result, in the order of their names."""
    return [Record(found, a) for a in found.answers]


def _pruned_json(p: Pruned) -> dict[str, Any]:
    return {**asdict(p), "kept": [*p.kept]}


def _pruned(p: Pruned) -> Iterator[Text]:
    yield Text("")
    yield Text("pruned context", style="bold")
    change = "not measured" if p.logprob_change is None else f"{p.logprob_change:+.2f} nats"
    yield Text(
        f"spans {', '.join(map(str, p.kept)) or 'none'}; {p.tokens_left} of {p.tokens} prompt "
        f"tokens; log p of the response {change}"
    )
    if p.response is None:
        yield Text(f"no answer: {clean(p.reason or '')}", style="red")
    else:
        yield Text("the same answer" if p.same else f"now: {clean(p.response.strip())}")


def _cited(said: Sequence[MethodSays]) -> str:
    """The spans that the model says it used, or why it said nothing that counts."""
    if any(s.value is None for s in said):
        return f"no answer, {json.loads(said[0].extra).get('reason', 'not measured')}"
    return ", ".join(str(s.unit_index) for s in said if s.value) or "none"


def _shown(e: Effect) -> bool:
    """Whether an effect is shown to be above 0."""
    return e.lo is not None and e.lo > 0
