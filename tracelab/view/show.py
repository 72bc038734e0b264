"""`tracelab show TRACE`: one trace in the terminal, tinted by what was measured of it.

Nothing is computed here: the numbers are those of the warehouse's views. On a terminal effects are
background colours (blue raised, orange lowered) beside the number itself, so that nothing is told
by colour alone; piped, or with NO_COLOR, the same lines are plain. Text of a trace is `clean`ed: it
cannot move the cursor or forge a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from duckdb import DuckDBPyConnection
from rich.console import Console
from rich.padding import Padding
from rich.style import Style
from rich.table import Table
from rich.text import Text

from tracelab.core.errors import QueryError
from tracelab.store.find import Say, instead, quiet, shown
from tracelab.text.categories import categorize
from tracelab.text.clean import clean
from tracelab.view.output import signed
from tracelab.view.report.page import require_views
from tracelab.view.report.runs import preferred, rows
from tracelab.view.report.selection import TraceKey, trace_key

_RAISED = ((222, 235, 250), (120, 172, 230))
_LOWERED = ((252, 232, 214), (240, 160, 90))
_INK = "#14171b"
_FDR = 0.1
_LEAST_SCALE = 0.2  # an effect of this size or more gets the full colour
_PROSE = 600  # characters of a text that a terminal shows
_WIDE = 100  # columns from which on there is room for categories

_SENTENCES = """
SELECT u.unit_index, u.text, u.category, a.value, a.lo, a.hi, a.n, a.status, a.prob_decisive,
       coalesce(a.p_adjusted, raw.p_adjusted) AS p_adjusted
FROM trace_units AS u
LEFT JOIN anchors AS a
    ON u.run_id = a.run_id AND u.trace_id = a.trace_id AND u.unit_index = a.unit_index
    AND a.method = $method AND a.evidence IN ('executed', 'judged')
LEFT JOIN anchors AS raw
    ON u.run_id = raw.run_id AND u.trace_id = raw.trace_id AND u.unit_index = raw.unit_index
    AND raw.method = 'resample' AND raw.evidence = a.evidence AND $method = 'resample-pooled'
WHERE u.run_id = $run AND u.trace_id = $trace AND u.unit_kind = 'sentence' ORDER BY u.unit_index
"""

_STEPS = """
SELECT u.unit_index, u.text, s.value, s.lo, s.hi, s.n, s.status, NULL AS prob_decisive,
       s.p_adjusted
FROM trace_units AS u
LEFT JOIN (
    SELECT DISTINCT ON (run_id, trace_id, unit_index) * FROM unit_scores
    WHERE unit_kind = 'step' AND metric = 'delta_value' AND target = '' AND evidence <> 'judged'
    ORDER BY list_position(['executed', 'replayed', 'scored'], evidence), method
) AS s USING (run_id, trace_id, unit_kind, unit_index)
WHERE u.run_id = $run AND u.trace_id = $trace AND u.unit_kind = 'step' ORDER BY u.unit_index
"""

_STATEMENTS = """
SELECT position, statement, label, supporting, top_span, top_value, top_lo, top_hi
FROM grounding WHERE run_id = $run AND trace_id = $trace ORDER BY position, method
"""

_VERDICTS = """
SELECT method, evidence, status, decisive_step, agent, posterior, runner_up, counterfactual
FROM verdicts WHERE run_id = $run AND trace_id = $trace AND evidence IN ('executed', 'replayed')
ORDER BY evidence, method
"""

_NAMED = """
SELECT kind, method, step, agent, status, reason FROM named_steps
WHERE run_id = $run AND trace_id = $trace ORDER BY kind DESC, method
"""

_METHODS = """
SELECT DISTINCT method, level, evidence FROM anchors
WHERE run_id = $run AND trace_id = $trace AND evidence IN ('executed', 'judged')
"""

_OTHER = """
SELECT t.model, r.model AS measured_by
FROM traces AS t INNER JOIN runs AS r ON t.run_id = r.run_id
WHERE t.run_id = $run AND t.trace_id = $trace AND t.off_policy
    AND coalesce(r.config ->> '$.source_options.off_policy', 'warn') = 'warn'
"""

_HEAD = """
SELECT role, text, answer, reference FROM trace_messages
WHERE run_id = $run AND trace_id = $trace ORDER BY turn_index
"""


def show_trace(
    con: DuckDBPyConnection,
    name: str,
    run: str | None,
    method: str | None,
    console: Console,
    *,
    say: Say = quiet,
) -> None:
    """Print one trace.

    Args:
        con: An open reader.
        name: Id, beginning of an id, or name of the trace.
        run: Id, beginning of an id, or name of the run; None is the latest that finished with
            results about the trace.
        method: The estimator to show; None is the first of `report.runs.PREFERRED` it has.
        console: Where to; colours, width and NO_COLOR are its business.
        say: Told which newer runs did not finish.

    Raises:
        QueryError: There is no such run, trace or method.
    """
    require_views(con)
    key = trace_key(con, name, run, say)
    where = {"run": key.run_id, "trace": key.trace_id}
    # How a run grades is one thing, so a method has one level of evidence in it.
    methods = rows(con, _METHODS, **where)
    levels = {r["method"]: r["level"] for r in methods}
    if method is not None and method not in levels:
        near = instead(method, sorted(levels))
        raise QueryError(f"trace {key.trace_id} has no effects by {shown(method)}{near}")
    chosen = method or preferred(list(levels))
    _head(console, key, rows(con, _HEAD, **where))
    for other in rows(con, _OTHER, **where):
        said = (
            f"made by {_short(other['model'], 80)}, measured by {_short(other['measured_by'], 80)}"
        )
        console.print(Text(f"another model: {said}", style="bold"), soft_wrap=True)
    if sentences := rows(con, _SENTENCES, **where, method=chosen or ""):
        level = levels.get(chosen or "")
        about = f"{chosen}, {level:.0%} intervals" if chosen and level else "no effects measured"
        if any(r["evidence"] == "judged" for r in methods if r["method"] == chosen):
            about += ", of answers that a model judged"
        console.print(Text(f"sentences, by {about}", style="bold"))
        _units(console, sentences)
    if statements := rows(con, _STATEMENTS, **where):
        console.print(
            Text(
                "statements and what they rest on (nats, or outcome of sampled answers)",
                style="bold",
            )
        )
        _statements(console, statements)
    if steps := rows(con, _STEPS, **where):
        console.print(Text("steps", style="bold"))
        _units(console, steps, categories=False)
        _verdicts(console, rows(con, _VERDICTS, **where))
        _named(console, rows(con, _NAMED, **where))


def _head(console: Console, key: TraceKey, messages: Sequence[dict[str, Any]]) -> None:
    title = Text(_short(key.name, 200), style="bold")
    title.append(f" {key.trace_id} in {clean(key.run_id)}", style="dim")
    _line(console, title)
    for message in messages[:-1]:
        said = Text(f"{message['role']}: ", style="dim") + Text(_short(message["text"], _PROSE))
        _line(console, said, 2)
    answer, reference = messages[-1]["answer"], messages[-1]["reference"]
    ends = f"answer: {'not recorded' if answer is None else _short(answer, 200)}"
    if reference is not None:
        ends += f"; reference: {_short(reference, 200)}"
    _line(console, Text(ends))
    console.print()


def _units(console: Console, units: Sequence[dict[str, Any]], *, categories: bool = True) -> None:
    """Sentences or steps: index, effect, interval, n, marks, and the text tinted by the effect."""
    known = [abs(u["value"]) for u in units if _measured(u)]
    scale, wide = max([_LEAST_SCALE, *known]), len(str(len(units)))
    best = max((u["prob_decisive"] or 0 for u in units), default=0)
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    # A narrow terminal keeps the room for the text.
    named = categories and console.width >= _WIDE
    sides: list[Literal["left", "right"]] = ["right", "right", "right", "right", "left", "left"]
    for justify in sides if named else sides[:-1]:
        table.add_column(justify=justify, no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    for u in units:
        ok = _measured(u)
        p, decisive = u["p_adjusted"], u["prob_decisive"]
        marks = "*" if ok and p is not None and p <= _FDR else ""
        marks += "!" if ok and decisive is not None and decisive == best > 0.5 else ""
        marks += "c" if u["status"] == "certified" else ""
        kind = ""
        if named:
            kind = u["category"] or categorize(u["text"], index=u["unit_index"], total=len(units))
        value = signed(u["value"]) if ok else "n/m"
        ends = f"[{signed(u['lo'])}, {signed(u['hi'])}]" if ok and u["lo"] is not None else ""
        n = "" if u["n"] is None else f"n={u['n']}"
        said = _short(u["text"], _PROSE) or "(white space)"
        text = Text.assemble((said, _tint(u["value"], scale) if ok else "dim"))
        if console.is_terminal:
            about = [kind] if named else []
            table.add_row(str(u["unit_index"]), value, ends, n, marks, *about, text)
        else:  # one line a unit, for grep
            console.print(Text(f"{u['unit_index']:>{wide}}  {value:>5}  {ends:<16}  {n:<6}  "
                               f"{marks:<2}  {text.plain}"), soft_wrap=True)  # fmt: skip
    if console.is_terminal:
        console.print(table)
    _line(console, Text(
        "+ raised the expected reward, - lowered it; * significant at a false discovery rate of "
        "10 %; ! decisive; c certified (so often written that its effect is bounded); "
        "n/m not measured",
        style="dim",
    ))  # fmt: skip
    console.print()


def _measured(unit: dict[str, Any]) -> bool:
    return unit["value"] is not None and unit["status"] not in ("insufficient", "failed")


def _statements(console: Console, statements: Sequence[dict[str, Any]]) -> None:
    for s in statements:
        unseen = s["label"] == "insufficient" or s["supporting"] is None
        rests = "not measured" if unseen else "no span raises it"
        if s["top_span"] is not None:
            ends = "" if s["top_lo"] is None else f" [{signed(s['top_lo'])}, {signed(s['top_hi'])}]"
            rests = f"{signed(s['top_value'])}{ends} {_short(s['top_span'], 160)}"
        style = {"grounded": "green", "ungrounded": "red"}.get(s["label"], "dim")
        head = Text(f"{s['position']:>3}  ") + Text(f"{s['label']:<12}", style=style)
        _hanging(console, head + Text("  "), Text(_short(s["statement"], _PROSE)))
        _hanging(console, Text(f"{'<- ':>22}", style="dim"), Text(rests, style="dim"))
    console.print()


def _verdicts(console: Console, verdicts: Sequence[dict[str, Any]]) -> None:
    for v in verdicts:
        said = f"verdict ({v['method']}, evidence: {v['evidence']}): {v['status']}"
        if v["decisive_step"] is not None:
            said += f", step {v['decisive_step']}"
        if v["agent"] is not None:
            said += f" by {_short(v['agent'], 60)}"
        if v["posterior"] is not None:
            said += f", probability {v['posterior']:.2f}"
        if v["runner_up"] is not None:
            said += f"; runner-up: step {v['runner_up']}"
        if v["counterfactual"] is not None:
            said += f"; fixed by: {_short(v['counterfactual'], 300)}"
        _line(console, Text(said))


def _line(console: Console, text: Text, indent: int = 0) -> None:
    """One line; wrapped, and indented, where a terminal shows it."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, indent)))
    else:
        console.print(text, soft_wrap=True)


def _hanging(console: Console, head: Text, text: Text) -> None:
    """Text beside its head; what is wrapped stays beside it."""
    if not console.is_terminal:
        console.print(head + text, soft_wrap=True)
        return
    table = Table.grid()
    table.add_column(width=len(head), no_wrap=True)
    table.add_column(overflow="fold", ratio=1)
    table.add_row(head, text)
    console.print(table)


def _named(console: Console, said: Sequence[dict[str, Any]]) -> None:
    """What rules and judges name, each under what it is: nothing of it was executed."""
    for kind, about in (
        ("rule", "rules that read the log; no model was asked, nothing was executed"),
        ("judge", "opinions of models; nothing was executed"),
    ):
        mine = [s for s in said if s["kind"] == kind]
        if mine:
            console.print(Text(about, style="bold"), soft_wrap=not console.is_terminal)
        for s in mine:
            line = f"{s['method'].partition(':')[2]}: "
            line += "no step" if s["step"] is None else f"step {s['step']}"
            if s["agent"] is not None:
                line += f" by {_short(s['agent'], 60)}"
            if kind == "judge" and s["reason"]:
                line += f"; {_short(s['reason'], 200)}"
            console.print(Text(line), soft_wrap=not console.is_terminal)


def _tint(value: float, scale: float) -> Style:
    """Dark ink on a background that is stronger the larger the effect."""
    strength = min(1.0, abs(value) / scale)
    if strength < 0.05:
        return Style()
    low, high = _RAISED if value > 0 else _LOWERED
    red, green, blue = (round(a + (b - a) * strength) for a, b in zip(low, high, strict=True))
    return Style(color=_INK, bgcolor=f"rgb({red},{green},{blue})")


def _short(text: str, most: int) -> str:
    """One harmless line, shortened in the middle of nothing but at its end."""
    said = clean(text[: most + 1]).strip()
    return said if len(text) <= most else said[:most] + f"… ({len(text):,} characters)"
