"""`tracelab.audit`: which step decided that a run of agents failed, and whose was it?"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from duckdb import DuckDBPyConnection

from tracelab.core.errors import ConfigError
from tracelab.run.config import RunConfig
from tracelab.store.connect import open_reader
from tracelab.store.query import query
from tracelab.view.data import Data
from tracelab.view.keys import Overrides, speaks
from tracelab.view.results import frames
from tracelab.view.results.result import Result, common, measure


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """What an audit concludes about one run; a row of the table `verdicts`.

    `status` is localized, ambiguous, unidentifiable or nonreproducible; `evidence` is executed or
    replayed; `posterior` is the probability of the decisive step.
    `recorded` and `came_instead` are what a nonreproducible run had on record, and what came.
    """

    trace_id: str
    trace_name: str | None
    method: str
    evidence: str
    status: str
    decisive_step: int | None
    agent: str | None
    tool: str | None
    who: str | None
    posterior: float | None
    credible_set: tuple[int, ...]
    runner_up: int | None
    correctable_step: int | None
    counterfactual: str | None
    reason: str | None
    rollouts: int | None
    tokens: int
    recorded: str | None = None
    came_instead: str | None = None


@dataclass(frozen=True, slots=True)
class NamedStep:
    """The step of a failed run that a rule or a judge names; a row of the view `named_steps`.

    Nothing was executed, and there is no probability. `kind` is rule (reads the log, asks no model)
    or judge (a model's opinion); `status` is named, none (no step) or failed (no answer).
    """

    trace_id: str
    trace_name: str | None
    kind: str
    method: str
    status: str
    step: int | None
    agent: str | None
    tool: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class StepScore:
    """One step, and what a method found of it; without a method, nothing was.

    `p_decisive` is the probability that it decided the failure; `delta_value` what it did to the
    chance of success, in [-1, 1], negative when it lowered it.
    """

    trace_id: str
    unit_index: int
    agent: str | None
    tool: str | None
    kind: str
    text: str
    method: str | None
    evidence: str | None
    p_decisive: float | None
    delta_value: float | None
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True, repr=False)
class AuditResult(Result[AuditVerdict]):
    """Verdicts of what was re-executed, one a run and method.

    Attributes:
        steps: The steps of all runs, with what re-executions found of them.
        rules: The steps that rules name.
        opinions: The steps that judges name.
    """

    row: ClassVar[type[AuditVerdict]] = AuditVerdict

    steps: tuple[StepScore, ...] = ()
    rules: tuple[NamedStep, ...] = ()
    opinions: tuple[NamedStep, ...] = ()


@speaks("audit")
def audit(
    data: Data,
    model: str | Path | None = None,
    *,
    name: str | None = None,
    source_format: str | None = None,
    export_tests: str | Path | None = None,
    overrides: Overrides = (),
    fresh: bool = False,
    retry_errors: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
    **options: Any,
) -> AuditResult:
    """Say which step decided that runs of agents failed; `tracelab audit`.

    Args:
        data: Agent logs: a path or several, a record of any format that `tracelab ingest` reads, a
            list of such records, JSON text of one, or `testbed`.
        model: A directory or a hub id: the model whose runs these are. None only where no model is
            asked (rules, or judges at an endpoint), and for `testbed`.
        name: The run's name; by default `audit`, or for data in memory from them and all that
            determines the numbers, so that the same call continues the same run.
        source_format: The same as `format`.
        export_tests: Folder for a pytest file of each correction that helped.
        overrides: Any other config keys.
        fresh: Forget what this run has done and start over.
        retry_errors: Ask again for what failed.
        quiet: No progress on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.
        options: The study's own options, and what every run can be asked:
            {options}

    Raises:
        TracelabError: There is neither an environment nor an opinion, something given cannot be
            used, or the engine cannot go on; one sentence.
    """
    if source_format is not None:
        options["format"] = source_format
    config, at, summary = measure(
        "audit", data, model, name=name, overrides=overrides, fresh=fresh,
        retry_errors=retry_errors, quiet=quiet, home=home, check=answerable, **options,
    )  # fmt: skip
    if export_tests is not None:
        write_tests(summary.exports, Path(export_tests))
    with open_reader(at.database) as con:
        return opened(con, config.name, at.path)


def answerable(config: RunConfig) -> None:
    """Refuse an audit in which nobody could answer.

    Raises:
        ConfigError: There is neither an environment nor an opinion, or a judge's endpoint is known
            and its model is not.
    """
    options: Any = config.options
    if options.environment is None and not options.opinions:
        raise ConfigError(
            "give --environment to execute the runs again, or --opinion (error-rule, a2p, ...) to "
            "guess without executing"
        )
    if (options.judge.endpoint is None) != (options.judge.model is None):
        raise ConfigError("a judge at an endpoint needs both --endpoint and --judge")


def write_tests(cases: Sequence[Any], folder: Path) -> int:
    """Write a pytest file for each correction that helped; says how many there are."""
    from tracelab.run.regression import export

    return len(export(cases, folder))


def write_back(con: DuckDBPyConnection, run_id: str) -> Iterator[dict[str, Any]]:
    """One JSON object a verdict, for whatever keeps the traces."""
    found = query(con, _WRITTEN_BACK, {"run": run_id}).to_pylist()
    for row in found:
        for name in ("credible_set", "extra"):
            row[name] = json.loads(row[name])
        yield row


_WRITTEN_BACK = """
SELECT t.name AS trace, e.task_id, e.version, v.* EXCLUDE (run_id)
FROM verdicts AS v
INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
LEFT JOIN episodes AS e ON v.run_id = e.run_id AND v.trace_id = e.trace_id
WHERE v.run_id = $run
ORDER BY list_position(['executed', 'replayed', 'scored', 'judged'], v.evidence), v.method, t.name,
    v.trace_id
"""

_VERDICTS = """
FROM (
    SELECT v.*, t.name AS trace_name FROM verdicts AS v
    INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
    WHERE v.run_id = $run AND v.evidence IN ('executed', 'replayed')
)
ORDER BY evidence, method, trace_name, trace_id
"""

_NAMED = """
FROM named_steps WHERE run_id = $run AND kind = $kind ORDER BY method, trace_name, trace_id
"""

_STEPS = """
FROM (
    SELECT s.trace_id, s.unit_index, s.agent, s.tool, s.kind, u.text, n.method, n.evidence,
        n.p_decisive, n.delta_value, n.lo, n.hi
    FROM steps AS s
    INNER JOIN trace_units AS u
        ON s.run_id = u.run_id AND s.trace_id = u.trace_id AND s.unit_index = u.unit_index
        AND u.unit_kind = 'step'
    LEFT JOIN (
        SELECT trace_id, unit_index, method, evidence,
            any_value(value) FILTER (metric = 'p_decisive') AS p_decisive,
            any_value(value) FILTER (metric = 'delta_value') AS delta_value,
            any_value(lo) FILTER (metric = 'delta_value') AS lo,
            any_value(hi) FILTER (metric = 'delta_value') AS hi
        FROM unit_scores
        WHERE run_id = $run AND unit_kind = 'step' AND evidence IN ('executed', 'replayed')
        GROUP BY ALL
    ) AS n ON s.trace_id = n.trace_id AND s.unit_index = n.unit_index
    WHERE s.run_id = $run
)
ORDER BY trace_id, method, unit_index
"""


def opened(con: DuckDBPyConnection, run_id: str, home: Path) -> AuditResult:
    """The result of a run that is in the warehouse."""
    rows = frames.read(con, AuditVerdict, _VERDICTS, run=run_id)
    steps = frames.read(con, StepScore, _STEPS, run=run_id)
    rules, opinions = (
        frames.read(con, NamedStep, _NAMED, run=run_id, kind=kind) for kind in ("rule", "judge")
    )
    return AuditResult(run_id, home, rows, *common(con, run_id), steps, rules, opinions)
