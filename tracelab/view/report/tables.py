"""Traces of a run as tables that a reader sorts and filters: how they ended, what decided them.

Contract: reads the data that the page holds, estimates nothing. A table holds one kind of evidence:
what was executed and what was judged never stand in one list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tracelab.text.answer.compare import surely_equal
from tracelab.view.report.agents import EVIDENCE, STATUSES
from tracelab.view.report.reasoning import Data
from tracelab.view.report.runs import preferred

_FEW = 12
"""Labels of a column that can be chosen among; a column of more is searched instead."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column: `text` as it is, `number` right-aligned; `choose` offers its values as a filter."""

    label: str
    kind: Literal["text", "number"] = "text"
    choose: bool = False
    title: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell shows; `sort` is its place where that is not its text, None the last."""

    text: str | None
    sort: float | None = None
    chip: str = ""
    href: str = ""
    """Address in the page of what it names."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of traces, with what a reader has to know to read it."""

    title: str
    note: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    evidence: str = ""
    method: str = ""
    terms: Sequence[tuple[str, str]] = field(default_factory=tuple)
    """Labels that occur in it, and what each says."""


def outcome(success: bool | None, answer: str | None, reference: str | None) -> str | None:
    """How a trace ended: `right` or `wrong`, by its own flag or else by the reference.

    None when neither tells: there is no reference or answer, or only algebra could compare them.
    """
    if success is not None:
        return "right" if success else "wrong"
    if answer is None or reference is None:
        return None
    same = surely_equal(answer, reference)
    return None if same is None else "right" if same else "wrong"


def of_run(run: str, traces: Iterable[Data], labels: dict[str, str]) -> list[Table]:
    """The tables of a run.

    Args:
        run: Its id.
        traces: What the page holds of every trace.
        labels: What each label of a statement says.

    Returns:
        Of an audit, one a method and level of evidence, the strongest first. Of sentences and
        contexts, one.
    """
    mine = [t for t in traces if t["run"] == run]
    by: dict[tuple[str, str], list[tuple[Data, Data]]] = {}
    for t in mine:
        for v in t.get("agent", {}).get("verdicts", ()):
            by.setdefault((v["evidence"], v["method"]), []).append((t, v))
    order = [*EVIDENCE]
    found = [_verdicts(*key, by[key]) for key in sorted(by, key=lambda k: (order.index(k[0]), k))]
    rest = [t for t in mine if not t.get("agent", {}).get("verdicts")]
    return [*found, *([_plain(rest, labels, bool(found))] if rest else [])]


def _verdicts(evidence: str, method: str, pairs: Sequence[tuple[Data, Data]]) -> Table:
    opinion = evidence in ("judged", "rule")
    measured = not opinion and any(v["posterior"] is not None for _, v in pairs)
    columns = [
        Column("trace"),
        Column("outcome", choose=True),
        *([] if opinion else [Column("verdict", choose=True)]),
        Column("names step" if opinion else "step", "number"),
        Column("agent", choose=True),
        Column("tool", choose=True),
        *([Column("probability", "number", title="that the step decided it")] if measured else []),
        Column("why"),
    ]
    rows = []
    for t, v in pairs:
        step = v["decisive_step"]
        at = f"{address(t, 'agent')}/{step}"
        there = Cell(None) if step is None else Cell(str(step), step, href=at)
        p = v["posterior"]
        rows.append(
            [
                _name(t, "agent"), _outcome(t), *([] if opinion else [Cell(v["status"])]), there,
                Cell(v["agent"]), Cell(v["tool"]),
                *([Cell(None if p is None else f"{p:.2f}", p)] if measured else []),
                Cell(v["reason"]),
            ]
        )  # fmt: skip
    seen = set() if opinion else {v["status"] for _, v in pairs}
    terms = [(s, said) for s, said in STATUSES.items() if s in seen]
    title = {"judged": f"Opinions by {method}", "rule": f"Named by {method}"}
    note = f"Evidence {evidence}: {EVIDENCE[evidence]}."
    return Table(
        title.get(evidence, f"Verdicts by {method}"), note, columns, rows, evidence, method, terms
    )


def _plain(traces: Sequence[Data], labels: dict[str, str], rest: bool) -> Table:
    """Traces without a verdict."""
    sentences = any("reasoning" in t for t in traces)
    contexts = any(t.get("context", {}).get("statements") for t in traces)
    steps = any("agent" in t for t in traces)
    answers = any(t["answer"] is not None for t in traces)
    columns = [
        Column("trace"),
        Column("outcome", choose=True),
        *([Column("answer"), Column("reference")] if answers else []),
        *([
            Column("largest effect", "number", title="of a sentence on the expected reward"),
            Column("sentence", "number"),
            Column("its category", choose=True),
            Column("status", choose=True, title="of the sentences"),
        ] if sentences else []),
        *([Column("statements", "number"), Column("their labels")] if contexts else []),
        *([Column("steps", "number"), Column("agents", choose=True)] if steps else []),
    ]  # fmt: skip
    rows = []
    for t in traces:
        row = [_name(t), _outcome(t)]
        row += [Cell(t["answer"]), Cell(t["reference"])] if answers else []
        row += _sentence(t) if sentences else []
        row += _labels(t) if contexts else []
        if steps:
            said = t.get("agent", {}).get("steps", [])
            names = list(dict.fromkeys(s["who"] for s in said if s["kind"] == "llm" and s["who"]))
            row += [Cell(str(len(said)) if said else None, len(said) or None),
                    Cell(", ".join(names) or None)]  # fmt: skip
        rows.append(row)
    seen = {s[2] for t in traces for s in t.get("context", {}).get("statements", ())}
    terms = [(name, said) for name, said in labels.items() if name in seen]
    title = "Traces without a verdict" if rest else "Traces"
    return Table(title, "", columns, rows, terms=terms)


def _sentence(t: Data) -> list[Cell]:
    """The largest effect of a trace's sentences by its first method, and where it is."""
    part = t.get("reasoning", {})
    methods = [m for m, e in part.get("methods", {}).items() if e["evidence"] == "executed"]
    if not methods:
        return [Cell(None), Cell(None), Cell(None), Cell("not measured")]
    rows = part["methods"][preferred(methods) or methods[0]]["rows"]
    known = [
        (abs(r[0]), -i) for i, r in enumerate(rows)
        if r is not None and r[0] is not None and r[4] not in ("insufficient", "failed")
    ]  # fmt: skip
    missing = len(rows) - len(known)
    status = "all measured" if not missing else f"{missing} of {len(rows)} not measured"
    if not known:
        return [Cell(None), Cell(None), Cell(None), Cell("none measured")]
    at = -max(known)[1]
    value = rows[at][0]
    said = f"{abs(value):.2f}"
    said = said if float(said) == 0 else ("+" if value > 0 else "\u2212") + said
    return [
        Cell(said, value, chip="pos" if value > 0.0005 else "neg" if value < -0.0005 else ""),
        Cell(str(at), at, href=f"{address(t, 'reasoning')}/{at}"),
        Cell(part["sentences"][at][1].replace("_", " ")),
        Cell(status),
    ]


def _labels(t: Data) -> list[Cell]:
    said = [s[2] for s in t.get("context", {}).get("statements", ())]
    counts = {label: said.count(label) for label in dict.fromkeys(sorted(said))}
    text = ", ".join(f"{n} {label}" for label, n in counts.items())
    return [Cell(str(len(said)) if said else None, len(said) or None), Cell(text or None)]


def _name(t: Data, view: str | None = None) -> Cell:
    return Cell(t["label"], href=address(t, view))


def _outcome(t: Data) -> Cell:
    chips = {"right": "good", "wrong": "bad"}
    ended = t["outcome"]
    return Cell("unknown" if ended is None else ended, chip=chips.get(ended or "", ""))


VIEWS = ("reasoning", "agent", "context")
_WORDS = {"reasoning": "reasoning", "agent": "steps", "context": "context"}


def address(t: Data, view: str | None = None) -> str:
    """Where the page shows a trace, as its script spells it: the first of its views has no word."""
    first = next((v for v in VIEWS if v in t), None)
    return t["id"] if view is None or view == first else f"{t['id']}/{_WORDS[view]}"


def few(table: Table, column: int) -> bool:
    """Whether the values of a column are few enough to choose among."""
    values = {row[column].text for row in table.rows}
    return 1 < len(values) <= _FEW
