"""`tracelab audit`: verdicts about failed agent runs. Thin."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from tracelab.cli.support import format_options, guarded, home_option
from tracelab.store.home import Home


@click.command()
@click.argument("paths", nargs=-1, required=True)
@click.option("--model", default="testbed", metavar="DIR", show_default=True,
              help="testbed, a directory or a hub id: the model whose runs these are.")  # fmt: skip
@click.option("--environment", metavar="SPEC",
              help="testbed, replay, module:Class or 'command: PROGRAM ARGUMENTS'.")  # fmt: skip
@click.option("--side-effects", is_flag=True, help="Execute steps although they change something.")
@click.option("--opinion", "opinions", multiple=True, metavar="NAME",
              help="A judge or a rule that guesses without executing.")  # fmt: skip
@click.option("--judge", "judge_model", metavar="NAME",
              help="Model of the judges at --endpoint [default: --model, locally].")  # fmt: skip
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible, up to /chat/completions.")
@click.option("--api-key-env", metavar="VAR", help="Environment variable that holds its key.")
@click.option("--max-requests", type=click.IntRange(min=0), help="Cap on requests to judges.")
@click.option("--format", "source_format", default="auto", show_default=True,
              help="As for `tracelab ingest`.")  # fmt: skip
@click.option("--limit", type=click.IntRange(min=1), help="Most runs.")
@click.option("--engine", type=click.Choice(["vllm", "transformers"]), default="vllm",
              show_default=True)  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]),
              default="bfloat16", show_default=True)  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, 5), default=1.0, show_default=True,
              help="As the runs were made.")  # fmt: skip
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True,
              help="Of one turn.")  # fmt: skip
@click.option("--rollouts", type=click.IntRange(min=1), default=16, show_default=True,
              help="Most re-executions from before one step.")  # fmt: skip
@click.option("--name", default="audit", show_default=True, help="Name of the run.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--fresh", is_flag=True, help="Forget what this run has done and start over.")
@click.option("--export-tests", type=click.Path(path_type=Path), metavar="DIR",
              help="Write a pytest file for each correction that helped.")  # fmt: skip
@click.option("--write-back", type=click.Path(path_type=Path), metavar="FILE",
              help="Write one JSON object a verdict.")  # fmt: skip
@format_options
@home_option
@guarded
def audit(
    paths: tuple[str, ...], model: str, environment: str | None, side_effects: bool,
    opinions: tuple[str, ...], judge_model: str | None, endpoint: str | None,
    api_key_env: str | None, max_requests: int | None, source_format: str, limit: int | None,
    engine: str, dtype: str, temperature: float, max_tokens: int, rollouts: int, name: str,
    seed: int, fresh: bool, export_tests: Path | None, write_back: Path | None, form: str | None,
    home: str | None,
) -> None:  # fmt: skip
    """Say which step decided that a run failed, whose it was, and what would have helped.

    PATHS are agent logs or folders of them. With --environment the runs are executed again, from
    every step; without one, --opinion asks judges or rules, and the verdicts say so.

    \b
    Examples:
      tracelab audit testbed --environment testbed --dtype float32 --max-tokens 64
      tracelab audit logs/ --environment my_module:MyEnvironment --model DIR
      tracelab audit logs/ --opinion error-rule --json
      tracelab audit logs/ --opinion a2p --endpoint http://localhost:8000/v1 --judge NAME
    """
    from tracelab.cli.audit_work import AuditOptions, run_audit

    options = AuditOptions(
        paths=paths, model=model, environment=environment, side_effects=side_effects,
        opinions=opinions, judge_model=judge_model, endpoint=endpoint, api_key_env=api_key_env,
        max_requests=max_requests, source_format=source_format, limit=limit, engine=engine,
        dtype=dtype, temperature=temperature, max_tokens=max_tokens, rollouts=rollouts, name=name,
        seed=seed,
    )  # fmt: skip
    sys.exit(run_audit(options, Home.at(home), form, export_tests, write_back, fresh=fresh))
