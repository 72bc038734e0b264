"""A forecast on paper: numbers to stdout, what there is to say about them to stderr."""

from __future__ import annotations

import json

import click

from tracelab.run.forecast import Forecast
from tracelab.sources.base import report_rejects
from tracelab.text.clean import clean
from tracelab.view.tables.printed import print_table


def show_forecast(found: Forecast, *, as_json: bool = False) -> None:
    """Print a forecast: a table, or one JSON object."""
    if as_json:
        click.echo(json.dumps(found.to_json()))
        return
    together = found.total
    print_table(
        ("stage", "requests", "rollouts", "prompt tokens", "generated tokens"),
        [
            (
                s.stage,
                f"{s.requests:,}",
                f"{s.rollouts:,}",
                f"{s.prompt_tokens:,}",
                f"{s.generated_tokens_min:,} to {s.generated_tokens_max:,}",
            )
            for s in (*found.stages, *([] if together is None else [together]))
        ],
        numeric=(1, 2, 3, 4),
    )
    for line in _remarks(found):
        click.echo(clean(line), err=True)


def _remarks(found: Forecast) -> list[str]:
    lines: list[str] = []
    report_rejects(found.rejects, lines.append)
    if found.base_traces_missing:
        lines.append(
            f"{found.base_traces_missing} base traces do not exist yet; what is asked about them "
            + (
                "depends on how long they become: from nothing up to the last stage above"
                if found.foreseen
                else "is not counted above"
            )
        )
    if found.money is not None and not found.nothing_left:
        low, high = found.money
        cap = "" if found.max_cost is None else " (no more than the cap that is left)"
        lines.append(f"cost: {low:,.4g} to {high:,.4g}{cap}")
    if found.estimated and not found.nothing_left:
        lines.append(
            "tokens are estimated: the model's own are not known, and reasoning that an endpoint "
            "does not show is not in them"
        )
    if found.nothing_left:
        lines.append("nothing is left to do: a run would only load its results again")
    elif (seconds := found.seconds) is None:
        lines.append("time: unknown until this model has run here once")
    else:
        lines.append(
            f"time: {seconds[0]:,.0f} to {seconds[1]:,.0f} s at "
            f"{found.tokens_per_second:,.0f} tokens/s, the rate of earlier runs here; starting "
            "the engine comes on top"
        )
    return [*lines, "nothing was written"]
