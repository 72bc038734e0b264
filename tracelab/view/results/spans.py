"""`tracelab.cite`: which spans of its context is each statement of a response made of?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from duckdb import DuckDBPyConnection

from tracelab.store.connect import open_reader
from tracelab.view.data import Data
from tracelab.view.keys import Overrides, speaks
from tracelab.view.results import frames
from tracelab.view.results.result import Result, common, measure

T = TypeVar("T")

UNITS = {
    "logprob": "in nats of log-probability",
    "answer": "on the share of sampled answers that are the response's own",
    "reward": "on the mean reward of sampled answers",
    "similarity": "on the mean similarity of sampled answers to the statement",
}
"""What effects are of, by `targets.outcome`."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What one span does to one statement; a row of the view `context_effects`.

    `value` is in nats of log-probability: positive when the span makes the statement likelier.
    None, with its interval, when it could not be measured. Where `outcome` is not `logprob`,
    answers were sampled, and it is what keeping the span adds to their mean outcome, -1 to 1.
    """

    trace_id: str
    trace_name: str | None
    method: str
    target: str
    statement: str
    rank: int | None
    unit_index: int
    span: str
    role: str | None
    value: float | None
    lo: float | None
    hi: float | None
    level: float
    n: int
    status: str
    outcome: str = "logprob"


@dataclass(frozen=True, slots=True)
class Statement:
    """Is a statement supported, and by what? A row of the view `grounding`.

    `label` is grounded, diffuse, memory (neither the context nor the rest of the response is
    needed), derived (it follows from the rest of the response), parametric (one of these two, not
    measured which), ungrounded or insufficient; `lds` says how well the scores predict fresh
    ablations (Spearman correlation, None when not measured). `logprob_alone` is that of the tokens
    after the first with neither context nor response before them, nats; None where not needed.
    `outcome` is `logprob`, or what of sampled answers was compared; `value_full` and `value_empty`
    are its means with the whole context and without any span.
    """

    trace_id: str
    trace_name: str | None
    method: str | None
    target: str
    position: int
    statement: str
    label: str
    supporting: int | None
    top_index: int | None
    top_span: str | None
    top_value: float | None
    top_lo: float | None
    top_hi: float | None
    logprob_full: float | None
    logprob_empty: float | None
    lds: float | None
    ablations: int
    rather_than: str | None = None
    logprob_alone: float | None = None
    outcome: str = "logprob"
    value_full: float | None = None
    value_empty: float | None = None


@dataclass(frozen=True, slots=True)
class ContextSpan:
    """A part of a context that can be left out; a row of the table `units`."""

    trace_id: str
    unit_index: int
    text: str
    role: str | None


@dataclass(frozen=True, slots=True)
class MethodSays:
    """What a method besides the effects says of a span and a statement; a row of `scores`.

    `extra` is JSON: what else the method reports.
    """

    trace_id: str
    method: str
    metric: str
    target: str
    unit_index: int
    value: float | None
    lo: float | None
    hi: float | None
    status: str
    extra: str


@dataclass(frozen=True, slots=True)
class Tested:
    """How well a method's scores foretell what was not used for them; a row of `faithfulness`."""

    trace_id: str
    method: str
    target: str
    metric: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """A context answered again from its top spans; a row of the table `pruned`."""

    trace_id: str
    k: int
    kept: tuple[int, ...]
    n_spans: int
    tokens: int
    tokens_left: int | None
    response: str | None
    same: bool | None
    logprob_change: float | None
    status: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Answered:
    """A response that was explained: its trace, what stood for an ablated span, and a remark."""

    trace_id: str
    trace_name: str | None
    response: str
    ablation: str
    note: str | None


@dataclass(frozen=True, slots=True, repr=False)
class CiteResult(Result[Effect]):
    """Effects, strongest first within a statement; one row a span, statement and method.

    Attributes:
        statements: What was explained, and how it is labelled.
        answers: The responses.
        spans: What could be left out.
        said: What methods besides the effects say.
        tests: How far the effects can be trusted.
        pruned: Answers from the top spans alone.
    """

    row: ClassVar[type[Effect]] = Effect

    statements: tuple[Statement, ...] = ()
    answers: tuple[Answered, ...] = ()
    spans: tuple[ContextSpan, ...] = ()
    said: tuple[MethodSays, ...] = ()
    tests: tuple[Tested, ...] = ()
    pruned: tuple[Pruned, ...] = ()


@speaks("cite")
def cite(
    data: Data,
    model: str | Path,
    *,
    name: str | None = None,
    target: Any = None,
    overrides: Overrides = (),
    fresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
    **options: Any,
) -> CiteResult:
    """Attribute responses to their contexts; `tracelab cite`.

    Args:
        data: `{"context", "query", "response"?}` or `{"messages": […]}`, a list of such records,
            JSON text of them, a path of any format, or `testbed`. Without a response the model
            writes it first.
        model: `testbed`, a directory or a hub id.
        name: The run's name; by default from the data and all that determines the numbers, so that
            the same call continues the same run.
        target: A text of the response, or: sentences, response, action. For data in memory also
            whatever else a record's `target` can be.
        overrides: Any other config keys.
        fresh: Forget what this run has done and start over.
        retry_errors: Ask again for what failed.
        quiet: No progress on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.
        options: The study's own options, and what every run can be asked:
            {options}

    Raises:
        TracelabError: An option, the model or all of the data cannot be used, or the engine cannot
            go on; one sentence.
    """
    text = target if isinstance(target, str) else None
    config, at, _ = measure(
        "cite", data, model, name=name, overrides=overrides, fresh=fresh,
        retry_errors=retry_errors, quiet=quiet, home=home,
        each_target=None if text is not None else target, target=text, **options,
    )  # fmt: skip
    with open_reader(at.database) as con:
        return opened(con, config.name, at.path)


def opened(con: DuckDBPyConnection, run_id: str, home: Path) -> CiteResult:
    """The result of a run that is in the warehouse."""

    def read(row: type[T], sql: str) -> tuple[T, ...]:
        return frames.read(con, row, sql, run=run_id)

    rows = read(
        Effect,
        "FROM context_effects WHERE run_id = $run ORDER BY trace_name, trace_id, method, "
        "position, rank NULLS LAST, unit_index",
    )
    statements = read(
        Statement,
        "FROM (SELECT g.*, t.rather_than FROM grounding AS g INNER JOIN targets AS t "
        "USING (run_id, trace_id, target)) WHERE run_id = $run "
        "ORDER BY trace_name, trace_id, position, method",
    )
    common_, answers = common(con, run_id), read(Answered, _ANSWERED)
    spans = read(
        ContextSpan,
        "FROM units WHERE run_id = $run AND unit_kind = 'span' ORDER BY trace_id, unit_index",
    )
    said = read(
        MethodSays,
        "FROM scores WHERE run_id = $run AND unit_kind = 'span' AND method NOT IN "
        f"{ABLATING} ORDER BY trace_id, target, "
        "list_position(['attention', 'at2', 'llm-cites'], method) NULLS LAST, method, metric, "
        "unit_index",
    )
    tests = read(
        Tested,
        "FROM faithfulness WHERE run_id = $run ORDER BY trace_id, target, method != 'ablate', "
        "method, metric",
    )
    pruned = read(Pruned, "FROM pruned WHERE run_id = $run ORDER BY trace_id, k")
    return CiteResult(
        run_id, home, rows, *common_, statements, answers, spans, said, tests, pruned
    )  # fmt: skip


ABLATING = ("ablate", "context-cite", "leave-one-out")
"""Methods whose scores are effects of leaving spans out."""

_ANSWERED = """
FROM (
    SELECT t.trace_id, t.name AS trace_name, w.text AS response, t.extra ->> 'ablation' AS note,
        CASE WHEN t.extra ->> 'ablation' IS NULL
            THEN coalesce(r.config -> 'cite' ->> 'mode', 'delete') ELSE 'placeholder'
        END AS ablation
    FROM traces AS t
    INNER JOIN runs AS r ON t.run_id = r.run_id
    INNER JOIN turns AS w ON t.run_id = w.run_id AND t.trace_id = w.trace_id
    WHERE t.run_id = $run
    QUALIFY row_number() OVER (PARTITION BY t.trace_id ORDER BY w.turn_index DESC) = 1
)
ORDER BY trace_name, trace_id
"""
