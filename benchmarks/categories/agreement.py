"""How well the rules of `tracelab.text.categories` agree with labels that others gave.

`sentences.tsv` holds whole traces of reasoning that were written and labelled for this, by the
definitions of Thought Anchors (arXiv:2506.19143): mathematics, logic, code, agents, everyday
questions. The rules were written looking at the traces of split `dev` only; one author wrote both
splits, so the figure of `held-out` is what to expect of plain English of this kind, not of any.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from tracelab.text.categories import CATEGORIES, categorize

BAR = 0.75
"""Agreement on the held-out sentences below which the rules are not to be trusted."""

SENTENCES = Path(__file__).with_name("sentences.tsv")

Traces = Iterable[Sequence[tuple[str, str]]]
"""Of each trace its sentences in order, each with its label."""


def labelled(split: str) -> list[list[tuple[str, str]]]:
    """The sentences of `dev` or `held-out` with their labels, by trace."""
    traces: dict[str, list[tuple[str, str]]] = {}
    with SENTENCES.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            if row["split"] == split:
                traces.setdefault(row["trace"], []).append((row["sentence"], row["category"]))
    return list(traces.values())


def tagged(folder: Path) -> list[list[tuple[str, str]]]:
    """The chunks of published Thought Anchors folders, each with the first tag it was given."""
    files = sorted(folder.rglob("chunks_labeled.json"))
    if not files:
        raise click.UsageError(f"{folder} holds no chunks_labeled.json")
    return [
        [(c["chunk"], c["function_tags"][0]) for c in json.loads(f.read_text(encoding="utf-8"))]
        for f in files
    ]


def agreement(traces: Traces) -> dict[str, Any]:
    """Hold the rules to labels.

    Returns:
        `sentences`; `overall`, the share with the same label; `unknown`, the share that no rule
        fits; `kappa`, Cohen's; `by_category`, for each label `sentences`, `precision`, `recall`
        and `f1` (None where nothing is to divide by).
    """
    pairs = [
        (label, categorize(sentence, index=i, total=len(trace)))
        for trace in traces
        for i, (sentence, label) in enumerate(trace)
    ]
    n = len(pairs)
    theirs, ours = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    same = Counter(a for a, b in pairs if a == b)
    overall = sum(same.values()) / n
    chance = sum(theirs[c] * ours[c] for c in theirs) / n**2
    return {
        "sentences": n,
        "overall": overall,
        "unknown": ours["unknown"] / n,
        "kappa": (overall - chance) / (1 - chance),
        "by_category": {
            c: {
                "sentences": theirs[c],
                "precision": same[c] / ours[c] if ours[c] else None,
                "recall": same[c] / theirs[c],
                "f1": 2 * same[c] / (ours[c] + theirs[c]),
            }
            for c in CATEGORIES
            if theirs[c]
        },
    }


def show(found: dict[str, Any]) -> None:
    """Print a table for each set of sentences."""
    for name, figures in found.items():
        click.echo(
            f"{name}: {figures['overall']:.1%} of {figures['sentences']:,} sentences agree "
            f"(kappa {figures['kappa']:.2f}; no rule fits {figures['unknown']:.1%})"
        )
        for category, f in figures["by_category"].items():
            precision = "  - " if f["precision"] is None else f"{f['precision']:4.2f}"
            click.echo(
                f"  {category:24} {f['sentences']:>5}  precision {precision}  "
                f"recall {f['recall']:4.2f}  f1 {f['f1']:4.2f}"
            )
