"""How well judges and floors guess the decisive step, as a table or as data."""

from __future__ import annotations

import json
from typing import Any, cast

import click
import pyarrow as pa

from tracelab.view.output import Format, default_format, print_arrow


def print_scores(rows: list[dict[str, Any]], form: str | None) -> None:
    """Print rows of `tracelab.run.score_judges` in a format; None picks it by where they go."""
    form = form or default_format()
    if form == "table":
        rows = [_readable(row) for row in rows]
    elif form == "csv":
        rows = [{**row, "unparsed": json.dumps(row["unparsed"])} for row in rows]
    if form in ("json", "nl"):
        body = [json.dumps(row, ensure_ascii=True, allow_nan=False) for row in rows]
        click.echo("\n".join(body) if form == "nl" else "[" + ",\n ".join(body) + "]")
        return
    print_arrow(pa.Table.from_pylist(rows), cast(Format, form))


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    def share(name: str) -> str:
        value, lo, hi = row[name], row[f"{name}_lo"], row[f"{name}_hi"]
        return "–" if value is None else f"{100 * value:.1f} [{100 * lo:.0f}, {100 * hi:.0f}]"

    gain, p = row["gain"], row["gain_p"]
    plus = "–" if gain is None else (
        f"{100 * gain:+.1f} [{100 * row['gain_lo']:+.0f}, {100 * row['gain_hi']:+.0f}] p={p:.2g}"
    )  # fmt: skip
    within = [row[f"within_{k}"] for k in (1, 3, 5)]
    unparsed = sum(row["unparsed"].values())
    return {
        "subset": row["subset"],
        "method": row["method"],
        "agent %": share("agent"),
        "step %": share("step"),
        "±1 ±3 ±5": " ".join("–" if w is None else f"{100 * w:.0f}" for w in within),
        "n": f"{row['n']} of {row['cases']}",
        "unparsed": unparsed,
        "failed": row["failed"],
        "gain over best floor": plus
        if gain is not None
        else "is it"
        if row["method"] == row["best_floor"]
        else "–",
    }
