"""`tracelab anchors`: a study of a file of traces without writing a config. Thin."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from tracelab.cli.support import guarded, home_option
from tracelab.store.home import Home

_UNITS = {"": 1, "k": 1_000, "m": 1_000_000, "g": 1_000_000_000}


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


class Amount(click.ParamType[int]):
    """A number of tokens: 200000, 200k, 1.5M."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse it."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMgG]?)", str(value))
        if found is None or (amount := int(float(found[1]) * _UNITS[found[2].lower()])) < 1:
            self.fail(f"{value!r} is no number of tokens; write 200000 or 200k", param, ctx)
        return amount


@click.command()
@click.argument("source")
@click.option("--model", required=True, metavar="DIR", help="testbed, a directory or a hub id.")
@click.option("--name", help="The run's name [default: from the file's].")
@click.option("--target-halfwidth", type=click.FloatRange(0, 1, min_open=True, max_open=True),
              help="A sentence is decided at this half-width [default: 0.1].")  # fmt: skip
@click.option("--budget-tokens", type=Amount(), help="Generated tokens to stop at: 200k.")
@click.option("--rollouts", type=click.IntRange(min=1), help="Most from one boundary.")
@click.option("--method", "methods", multiple=True, metavar="NAME",
              help="resample, counterfactual, links, force, attend, suppress.")  # fmt: skip
@click.option("--compat", type=click.Choice(["thought-anchors"]),
              help="Also the published numbers, from the published sampling.")  # fmt: skip
@click.option("--temperature", type=click.FloatRange(0, 5), help="As the traces were made.")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True))
@click.option("--max-tokens", type=click.IntRange(min=1))
@click.option("--engine", type=click.Choice(["vllm", "transformers", "scripted"]), default="vllm",
              show_default=True)  # fmt: skip
@click.option("--dtype", type=click.Choice(["float32", "bfloat16", "float16"]))
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Any config key.")
@click.option("--dry-run", is_flag=True, help="Say what it would cost; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="With --dry-run: one JSON object.")
@click.option("--fresh", is_flag=True, help="Forget what this run has done and start over.")
@click.option("--quiet", is_flag=True, help="No progress.")
@home_option
@guarded
def anchors(source: str, dry_run: bool, as_json: bool, fresh: bool, quiet: bool,
            home: str | None, **given: Any) -> None:  # fmt: skip
    """Which sentences decided the answers of the traces in SOURCE?

    SOURCE is a JSONL file, a folder, or testbed. Rollouts go where they are needed until every
    sentence is decided or the budget is spent; the same command continues an interrupted run.

    \b
    Examples:
      tracelab anchors testbed --model testbed --target-halfwidth 0.1 --budget-tokens 200k
      tracelab anchors my.jsonl --model DIR --dry-run
    """
    from tracelab.run.config import parse_config

    if as_json and not dry_run:
        raise click.UsageError("--json goes with --dry-run; a run's data is what `query` shows")
    config = parse_config(config_of(source, **given), "tracelab anchors")
    place = Home.at(home)
    if dry_run:
        from tracelab.run.forecast import forecast, show

        show(forecast(config, place, fresh=fresh), as_json=as_json)
        return
    from tracelab.run.runs import run_study

    code = run_study(config, place, fresh=fresh, quiet=quiet)
    _show(config.name, place)
    sys.exit(code)


def _show(run: str, home: Home) -> None:
    """Print the sentences with the largest effects, and where the rest is."""
    from tracelab.store.connect import open_reader
    from tracelab.store.query import query
    from tracelab.view.output import default_format, print_arrow, print_table

    with open_reader(home.database) as con:
        found = query(con, _TOP, {"run": run})
    if default_format() == "table":
        rows = [[*r.values()] for r in found.to_pylist()]
        print_table(found.column_names, rows, numeric=(1, 3, 4, 5, 6), fold=(0, 2))
    else:
        print_arrow(found, default_format())
    click.echo(
        "effect: what writing the sentence did to the chance of a right answer (- lowered it);\n"
        "matters: the probability that this is more than resample.delta\n"
        f"next: tracelab report {run} --open; tracelab show TRACE; tracelab query",
        err=True,
    )


def config_of(
    source: str,
    *,
    model: str,
    name: str | None = None,
    target_halfwidth: float | None = None,
    budget_tokens: int | None = None,
    rollouts: int | None = None,
    methods: tuple[str, ...] = (),
    compat: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    engine: str = "vllm",
    dtype: str | None = None,
    overrides: tuple[str, ...] = (),
) -> dict[str, Any]:
    """The command's options as config data."""
    from tracelab.run.config import override
    from tracelab.studies.anchors.published.recipe import SETTINGS

    resample: dict[str, Any] = {}
    wanted = list(methods) or ["resample", "counterfactual", "links"]
    if compat is not None:
        resample |= SETTINGS
        wanted = [*dict.fromkeys([*wanted, "force", "thought-anchors"])]
    resample |= _given(
        target_halfwidth=target_halfwidth, budget_tokens=budget_tokens, rollouts=rollouts
    )
    data: dict[str, Any] = {
        "name": name or re.sub(r"[^A-Za-z0-9._-]+", "-", Path(source).stem).strip("-.") or "run",
        "source": source,
        "model": model,
        "engine": {"kind": engine, **_given(dtype=dtype)},
        "sampling": _given(temperature=temperature, top_p=top_p, max_tokens=max_tokens),
        "resample": {**resample, "methods": wanted},
    }
    for item in overrides:
        override(data, item)
    return data


def _given(**options: Any) -> dict[str, Any]:
    return {k: v for k, v in options.items() if v is not None}
