"""`tracelab.audit`: which step decided that a run of agents failed, and whose was it?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from duckdb import DuckDBPyConnection

from tracelab.store.connect import open_reader
from tracelab.store.home import Home
from tracelab.view import frames
from tracelab.view.data import Data, Overrides, configured, place
from tracelab.view.result import Result, common, measure


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an audit concludes about one run; a row of the table `verdicts`.

    `status` is localized, ambiguous, unidentifiable or nonreproducible; `evidence` is executed,
    replayed or judged, and never mixed; `posterior` is the probability of the decisive step.
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


@dataclass(frozen=True, slots=True)
class Step:
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
class AuditResult(Result[Verdict]):
    """Verdicts, one a run and method; what executed comes before what was judged."""

    row: ClassVar[type[Verdict]] = Verdict

    steps: tuple[Step, ...] = ()

    def _repr_html_(self) -> str:
        from tracelab.view.html import of_audit

        return of_audit(self)


def audit(
    data: Data,
    model: str | Path = "testbed",
    *,
    name: str | None = None,
    environment: str | None = None,
    side_effects: bool = False,
    opinions: Sequence[str] = (),
    judge_model: str | None = None,
    endpoint: str | None = None,
    api_key_env: str | None = None,
    max_requests: int | None = None,
    source_format: str = "auto",
    limit: int | None = None,
    engine: str = "vllm",
    dtype: str = "bfloat16",
    temperature: float = 1.0,
    max_tokens: int = 512,
    rollouts: int = 16,
    seed: int = 0,
    export_tests: str | Path | None = None,
    overrides: Overrides = (),
    fresh: bool = False,
    quiet: bool = False,
    home: str | Path | None = None,
) -> AuditResult:
    """Say which step decided that runs of agents failed; `tracelab audit`.

    Args:
        data: Agent logs: a path or several, a record of any format that `tracelab ingest` reads, a
            list of such records, JSON text of one, or `testbed`.
        model: `testbed`, a directory or a hub id: the model whose runs these are.
        name: The run's name; by default `audit`, or for data in memory from them and all that
            determines the numbers, so that the same call continues the same run.
        environment: `testbed`, `replay`, `module:Class` or `command: PROGRAM ARGUMENTS`.
        side_effects: Execute steps although they change something.
        opinions: Judges or rules that guess without executing.
        judge_model: Model of the judges at `endpoint`; by default `model`, here.
        endpoint: OpenAI-compatible, up to /chat/completions.
        api_key_env: Environment variable that holds its key.
        max_requests: Cap on requests to judges.
        source_format: As for `tracelab ingest`.
        limit: Most runs.
        engine: `vllm` or `transformers`.
        dtype: Precision of weights and arithmetic.
        temperature: As the runs were made.
        max_tokens: Of one turn.
        rollouts: Most re-executions from before one step.
        seed: Of every sample.
        export_tests: Folder for a pytest file of each correction that helped.
        overrides: Any other config keys.
        fresh: Forget what this run has done and start over.
        quiet: No progress on stderr.
        home: Where results live; default `TRACELAB_HOME` or `./tracelab-home`.

    Raises:
        TracelabError: There is neither an environment nor an opinion, something given cannot be
            used, or the engine cannot go on; one sentence.
    """
    from tracelab.cli.audit_work import AuditOptions, config_of, results_of
    from tracelab.environments.case import export

    at = Home.at(home)
    source, in_memory = place(data, at, documents=True)
    options = AuditOptions(
        paths=(source,), model=str(model), environment=environment, side_effects=side_effects,
        opinions=tuple(opinions), judge_model=judge_model, endpoint=endpoint,
        api_key_env=api_key_env, max_requests=max_requests, source_format=source_format,
        limit=limit, engine=engine, dtype=dtype, temperature=temperature, max_tokens=max_tokens,
        rollouts=rollouts, name=name or "audit", seed=seed,
    )  # fmt: skip
    config = config_of(options).model_dump(mode="json")
    if in_memory and name is None:
        del config["name"]
    parsed = configured(config, overrides, "tracelab.audit", stem="audit" if in_memory else None)
    measure(parsed, at, fresh=fresh, quiet=quiet)
    if export_tests is not None:
        export(results_of(parsed, at).cases, Path(export_tests))
    with open_reader(at.database) as con:
        return opened(con, parsed.name, at.path)


_VERDICTS = """
FROM (
    SELECT v.*, t.name AS trace_name FROM verdicts AS v
    INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
    WHERE v.run_id = $run
)
ORDER BY list_position(['executed', 'replayed', 'scored', 'judged'], evidence), method, trace_name,
    trace_id
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
        FROM unit_scores WHERE run_id = $run AND unit_kind = 'step' GROUP BY ALL
    ) AS n ON s.trace_id = n.trace_id AND s.unit_index = n.unit_index
    WHERE s.run_id = $run
)
ORDER BY trace_id, method, unit_index
"""


def opened(con: DuckDBPyConnection, run_id: str, home: Path) -> AuditResult:
    """The result of a run that is in the warehouse."""
    rows = frames.read(con, Verdict, _VERDICTS, run=run_id)
    steps = frames.read(con, Step, _STEPS, run=run_id)
    return AuditResult(run_id, home, rows, *common(con, run_id), steps)
