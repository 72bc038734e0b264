"""What the command of each study says of itself, takes besides its options, and prints at the end.

A study that is not here, of another package, gets its help from its options and prints its scores.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tracelab.core.errors import ConfigError
from tracelab.core.study import STUDIES
from tracelab.grading.registry import OUTCOMES
from tracelab.store.home import Home
from tracelab.view.keys import replicating

if TYPE_CHECKING:
    from tracelab.run.config import RunConfig
    from tracelab.run.execute import Summary

_FEW = 3
"""Records that are shown one by one; more become a table."""


@dataclass(frozen=True, slots=True)
class Done:
    """A finished run, to be shown.

    Attributes:
        config: Its config.
        home: Where it is.
        summary: What it came to.
        form: `json`, `nl`, `csv` or `table`; None where nobody chose.
        extra: What the command takes besides its options.
    """

    config: RunConfig
    home: Home
    summary: Summary
    form: str | None
    extra: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Face:
    """How one study looks on the command line.

    Attributes:
        help: Help of the command; ends with examples.
        show: Prints a finished run.
        options: What it takes besides the study's options.
        refine: Changes what was asked (values by config key), knowing the extra options.
        check: Refuses a config.
    """

    help: str
    show: Callable[[Done], None]
    options: Callable[[], Sequence[click.Option]] = tuple
    refine: Callable[[dict[str, Any], Mapping[str, Any]], dict[str, Any]] = lambda v, _: v
    check: Callable[[RunConfig], object] = bool


_ANCHORS = """Which sentences decided the answers of the traces in SOURCE?

SOURCE are files or folders of traces, - for stdin, or testbed. Rollouts go where they are needed
until every sentence is decided or the budget is spent; the same command continues an interrupted
run. Prints the ten largest effects; with --json, --nl or --csv, all of them.

\b
Examples:
  tracelab anchors testbed --model testbed --target-halfwidth 0.1 --budget-tokens 200k
  tracelab anchors my.jsonl --model DIR --dry-run
"""

_CITE = """Which spans of its context does each statement of a response rest on?

SOURCE are files or folders of any format, - for stdin, or testbed. Of a JSONL file, every line is
studied: {"context": TEXT or [DOCUMENTS], "query": TEXT, "response": TEXT} or {"messages": [...]}.
Without a response the model writes it first. Results are kept; the same command continues.

Few records are shown whole, many as a table of statements; --json gives one object a record.

\b
Examples:
  echo '{"context": "Here are the notes. Tea costs 4.", "query": "How much is Tea?"}' |
    tracelab cite - --model testbed
  tracelab cite rag.jsonl --model DIR --dry-run
"""

_AUDIT = """Which step decided that a run failed, whose was it, and what would have helped?

SOURCE are agent logs or folders of them, - for stdin, or testbed. With --environment the runs are
executed again, from every step; without one, --opinion asks judges or rules, and the verdicts say
so.

\b
Examples:
  tracelab audit testbed --environment testbed --dtype float32 --max-tokens 64
  tracelab audit logs/ --environment my_module:MyEnvironment --model DIR
  tracelab audit logs/ --opinion error-rule --json
  tracelab audit logs/ --opinion a2p --endpoint http://localhost:8000/v1 --judge NAME
"""

_TOP = """
SELECT
    trace_name AS trace, unit_index AS "#", text AS sentence, printf('%+.2f', value) AS effect,
    printf('%+.2f to %+.2f', lo, hi) AS interval, n, printf('%.2f', prob_matters) AS matters
FROM anchors
WHERE run_id = $run AND value IS NOT NULL AND method = (
    SELECT coalesce(max(method) FILTER (method = 'resample-pooled'), 'resample')
    FROM anchors WHERE run_id = $run
)
ORDER BY abs(value) DESC, trace_name, unit_index
LIMIT 10
"""

_VERDICTS = """
SELECT
    t.name AS trace, v.evidence, v.method, v.status, v.decisive_step, v.agent, v.tool, v.who,
    round(v.posterior, 4) AS posterior, v.credible_set::VARCHAR AS credible_set,
    v.correctable_step, v.reason
FROM verdicts AS v
INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
WHERE v.run_id = $run AND v.evidence IN ('executed', 'replayed')
ORDER BY v.evidence, v.method, t.name, v.trace_id
"""

_NAMED = """
SELECT trace_name AS trace, kind, method, status, step, agent, tool, reason
FROM named_steps
WHERE run_id = $run AND kind = '{kind}'
ORDER BY method, trace_name, trace_id
"""

_STATEMENTS = """
SELECT
    trace_name AS trace, label, statement,
    printf(if(outcome = 'logprob', '%+.1f', '%+.2f'), top_value) AS effect,
    printf(if(outcome = 'logprob', '%+.1f to %+.1f', '%+.2f to %+.2f'), top_lo, top_hi) AS interval,
    top_span AS span
FROM grounding
WHERE run_id = $run AND coalesce(method, 'ablate') = 'ablate'
ORDER BY trace_name, trace_id, position
"""

_SCORES = """
SELECT
    s.trace_name AS trace, s.unit_kind, s.unit_index, s.method, s.metric, s.target, s.value, s.lo,
    s.hi, s.n, s.status
FROM unit_scores AS s
WHERE s.run_id = $run
ORDER BY ALL
"""


def _print(done: Done, sql: str, *, fold: Sequence[int] = (), numeric: Sequence[int] = ()) -> None:
    """Print a query about the run in the form that was chosen."""
    from tracelab.store.connect import open_reader
    from tracelab.store.query import query
    from tracelab.view.output import Format, default_format, print_arrow
    from tracelab.view.tables.printed import print_table

    with open_reader(done.home.database) as con:
        found = query(con, sql, {"run": done.config.name})
    form = done.form or default_format()
    if form == "table":
        rows = [[*row.values()] for row in found.to_pylist()]
        print_table(found.column_names, rows, numeric=numeric, fold=fold)
    else:
        print_arrow(found, cast(Format, form))


def _show_anchors(done: Done) -> None:
    run = done.config.name
    if done.form in ("json", "nl", "csv"):
        from tracelab.store.connect import open_reader
        from tracelab.view.output import Format, print_arrow
        from tracelab.view.results.sentences import opened

        with open_reader(done.home.database) as con:
            result = opened(con, run, done.home.path)
        print_arrow(result.to_df("arrow"), cast(Format, done.form))
        return
    _print(done, _TOP, numeric=(1, 3, 4, 5, 6), fold=(0, 2))
    if OUTCOMES.named(done.config.grading.kind).evidence == "judged":
        click.echo("answers were judged by a model: the effects rest on its opinions", err=True)
    click.echo(
        "effect: what writing the sentence did to the chance of a right answer (- lowered it);\n"
        "matters: the probability that this is more than anchors.delta\n"
        f"next: tracelab report {run} --open; tracelab show TRACE; tracelab query",
        err=True,
    )


def _show_cite(done: Done) -> None:
    from rich.console import Console

    from tracelab.store.connect import open_reader
    from tracelab.view.results.spans import opened
    from tracelab.view.results.statements import records

    run = done.config.name
    if done.form in ("csv", "table") or (done.form is None and done.summary.traces > _FEW):
        _print(done, _STATEMENTS, numeric=(3, 4), fold=(0, 2, 5))
        click.echo(f"next: tracelab query context_effects -p run={run}", err=True)
        return
    with open_reader(done.home.database) as con:
        found = records(opened(con, run, done.home.path))
    if done.form is not None:
        for record in found:
            print(json.dumps(record.to_json(), ensure_ascii=True, allow_nan=False))
        return
    console = Console(highlight=False)
    console.soft_wrap = not console.is_terminal  # what is piped is cut by whoever reads it
    for i, record in enumerate(found):
        if len(found) > 1:
            from rich.text import Text

            from tracelab.text.clean import clean

            name = clean(record.answered.trace_name or record.answered.trace_id)
            console.print(Text(f"{'' if i == 0 else chr(10)}── {name}", style="dim"))
        for line in record.lines():
            console.print(line)


def _show_audit(done: Done) -> None:
    from tracelab.store.connect import open_reader
    from tracelab.view.results.steps import write_back, write_tests

    if (back := done.extra["write_back"]) is not None:
        with open_reader(done.home.database) as con:
            lines = [json.dumps(row) + "\n" for row in write_back(con, done.config.name)]
        back.write_text("".join(lines), encoding="utf-8")
    if (tests := done.extra["export_tests"]) is not None:
        written = write_tests(done.summary.exports, tests)
        click.echo(f"{written} tests written to {tests}", err=True)
    _print_audit(done)


_PARTS = (
    ("verdicts", "what re-executions show"),
    ("rules", "what rules name: they read the log, no model was asked, nothing was executed"),
    ("judges", "what models think: opinions, nothing was executed"),
)
"""What an audit prints, each apart: what was executed, rules and opinions are never one list."""


def _print_audit(done: Done) -> None:
    from tracelab.store.connect import open_reader
    from tracelab.store.query import query
    from tracelab.view.output import Format, default_format, print_arrow, print_parts, print_table

    queries = (_VERDICTS, _NAMED.format(kind="rule"), _NAMED.format(kind="judge"))
    with open_reader(done.home.database) as con:
        found = [query(con, sql, {"run": done.config.name}) for sql in queries]
    form = done.form or default_format()
    if form == "json":
        print_parts({name: t for (name, _), t in zip(_PARTS, found, strict=True)})
        return
    some = [(about, t) for (_, about), t in zip(_PARTS, found, strict=True) if t.num_rows]
    if form == "csv" and len(some) > 1:
        click.echo(
            f"only {some[0][0]} is printed; the rest: tracelab query named_steps --csv "
            f"-p run={done.config.name}",
            err=True,
        )
        some = some[:1]
    for i, (about, table) in enumerate(some):
        if form == "table":
            click.echo(f"{'' if i == 0 else chr(10)}{about}")
            print_table(table.column_names, [[*row.values()] for row in table.to_pylist()])
        else:
            print_arrow(table, cast(Format, form))


def _show_scores(done: Done) -> None:
    _print(done, _SCORES)


def _compat() -> Sequence[click.Option]:
    return [
        click.Option(
            ["--compat"], type=click.Choice(["thought-anchors"]),
            help="Also the published numbers, from the published sampling.",
        )
    ]  # fmt: skip


def _replicate(values: dict[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    return values if extra["compat"] is None else replicating(values)


def _files() -> Sequence[click.Option]:
    return [
        click.Option(
            ["--export-tests"], type=click.Path(path_type=Path), metavar="DIR",
            help="Write a pytest file for each correction that helped.",
        ),
        click.Option(
            ["--write-back"], type=click.Path(path_type=Path), metavar="FILE",
            help="Write one JSON object a verdict.",
        ),
    ]  # fmt: skip


def _answerable(config: RunConfig) -> None:
    from tracelab.view.results.steps import answerable

    answerable(config)


_FACES: Mapping[str, Face] = {
    "anchors": Face(_ANCHORS, _show_anchors, _compat, _replicate),
    "cite": Face(_CITE, _show_cite),
    "audit": Face(_AUDIT, _show_audit, _files, check=_answerable),
}


def face_of(study: str) -> Face:
    """How a study looks on the command line.

    Raises:
        ConfigError: There is no such study.
    """
    if study not in STUDIES:
        raise ConfigError(f"there is no study {study!r}; known are {', '.join(STUDIES)}")
    if study in _FACES:
        return _FACES[study]
    about = " ".join((STUDIES[study].Options.__doc__ or f"The study {study}.").split())
    example = f"\b\nExample:\n  tracelab {study} my.jsonl --model DIR --dry-run"
    sources = "SOURCE are files or folders, - for stdin, or testbed."
    return Face(f"{about}\n\n{sources}\n\n{example}\n", _show_scores)


def show(done: Done) -> None:
    """Print a finished run."""
    face_of(done.config.study).show(done)
