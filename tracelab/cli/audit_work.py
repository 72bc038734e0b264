"""What `tracelab audit` does: a run of the pipeline failure_audit, and its verdicts printed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import click
import pyarrow as pa

from tracelab.core.errors import ConfigError
from tracelab.environments.case import export
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.runs import run_study
from tracelab.store.home import Home
from tracelab.store.journal import Journal
from tracelab.studies.audit.episodes import Episodes
from tracelab.studies.audit.results import Results, write_back
from tracelab.view.output import Format, default_format, print_arrow

_SHOWN = (
    "trace", "evidence", "method", "status", "decisive_step", "agent", "tool", "who", "posterior",
    "credible_set", "correctable_step", "reason",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What the command was asked; see its help."""

    paths: tuple[str, ...]
    model: str = "testbed"
    environment: str | None = None
    side_effects: bool = False
    opinions: tuple[str, ...] = ()
    judge_model: str | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    max_requests: int | None = None
    source_format: str = "auto"
    limit: int | None = None
    engine: str = "vllm"
    dtype: str = "bfloat16"
    temperature: float = 1.0
    max_tokens: int = 512
    rollouts: int = 16
    name: str = "audit"
    seed: int = 0


def config_of(o: AuditOptions) -> RunConfig:
    """The config of a run that does the same.

    Raises:
        ConfigError: There is neither an environment nor an opinion.
    """
    if o.environment is None and not o.opinions:
        raise ConfigError(
            "give --environment to execute the runs again, or --opinion (error-rule, a2p, ...) to "
            "guess without executing"
        )
    if (o.endpoint is None) != (o.judge_model is None):
        raise ConfigError("a judge at an endpoint needs both --endpoint and --judge")
    source: dict[str, Any] = {"format": o.source_format}
    if o.limit is not None:
        source["limit"] = o.limit
        source["problems"] = o.limit
    return parse_config(
        {
            "name": o.name, "pipeline": "failure_audit", "source": "\n".join(o.paths),
            "model": o.model, "seed": o.seed, "source_options": source,
            "engine": {"kind": o.engine, "dtype": o.dtype},
            "sampling": {"temperature": o.temperature, "max_tokens": o.max_tokens},
            "audit": {
                "environment": o.environment, "side_effects": o.side_effects,
                "opinions": list(o.opinions), "rollouts": o.rollouts,
                "judge": {
                    "endpoint": o.endpoint, "model": o.judge_model, "api_key_env": o.api_key_env,
                    "max_requests": o.max_requests,
                },
            },
        },
        "audit",
    )  # fmt: skip


def results_of(config: RunConfig, home: Home) -> Results:
    """What a finished audit came to, from its journal."""
    with Journal(config.runtime.journal or str(home.runs), config.name) as journal:
        return Results.of(journal.lines("audit.jsonl"), [])


def run_audit(
    options: AuditOptions, home: Home, form: str | None, tests: Path | None, back: Path | None,
    *, fresh: bool = False,
) -> int:  # fmt: skip
    """Run, print the verdicts, write what was asked for; returns the exit code."""
    config = config_of(options)
    code = run_study(config, home, fresh=fresh)
    with Journal(config.runtime.journal or str(home.runs), config.name) as journal:
        results = Results.of(journal.lines("audit.jsonl"), [])
        rows = list(write_back(results, Episodes(journal)))
    if back is not None:
        back.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    if tests is not None:
        written = export(results.cases, tests)
        click.echo(f"{len(written)} tests written to {tests}", err=True)
    shown = [{k: row[k] for k in _SHOWN} for row in rows]
    for row in shown:
        row["credible_set"] = json.dumps(row["credible_set"])
        row["posterior"] = None if row["posterior"] is None else round(row["posterior"], 4)
    columns = {k: [row[k] for row in shown] for k in _SHOWN}
    print_arrow(pa.table(columns), cast(Format, form or default_format()))
    return code
