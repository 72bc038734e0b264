"""The run of the published recipe that makes the pool; what is replayed from it, in tables."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click
from tracelab.studies.anchors.inputs import sampling_of
from tracelab.studies.anchors.subject import Nowhere, RolloutSink, Study

from benchmarks.anchors import reference, replay
from benchmarks.anchors.replay import PUBLISHED, Curve, Pool
from tracelab.core.item import ModelRef
from tracelab.core.rows import ItemRow
from tracelab.engines.http import BlockingPost
from tracelab.grading.grader import Grader
from tracelab.run.config import RunConfig, parse_config
from tracelab.store.home import Home
from tracelab.store.journal import Journal, deduplicated
from tracelab.view.output import print_table

RUN = "bench-anchors"
SHARES = (0.03, 0.05, 0.08, 0.13, 0.25)
"""Budgets, as shares of what the published recipe costs."""

_KEYS = ("rmse", "recall_5", "f1")


def config_of(home: Home, engine: str, limit: int | None) -> RunConfig:
    """The published recipe over the reference traces, as a run of its own."""
    folder = home.path / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "anchors.jsonl"
    records = reference.traces()[:limit]
    path.write_text("".join(json.dumps(r) + "\n" for r in records))
    return parse_config(
        {
            "name": RUN,
            "source": str(path),
            "model": "testbed",
            "seed": 11,
            "engine": {"kind": engine, "dtype": "float32", "max_model_len": 512},
            "sampling": {"temperature": 1.0, "max_tokens": 200},
            "resample": {
                "methods": ["resample"],
                "allocation": "uniform",
                "rollouts": PUBLISHED,
            },
        },
        "benchmarks anchors",
    )


def read_pool(home: Home, config: RunConfig) -> Pool:
    """The run's rollouts, graded again from its journal, with their references."""
    with (
        Journal(str(home.runs), RUN) as journal,
        contextlib.closing(Grader(config.grading, connect=BlockingPost)) as grader,
    ):
        record = journal.read_json("run.json")
        assert record is not None, "it has just been run"
        studies = [Study.from_json(d) for d in journal.read_lines("traces.jsonl")]
        sink = RolloutSink(studies, grader, Nowhere())
        sink.expect(ItemRow(**d) for d in journal.read_lines("plan.jsonl"))
        for part in deduplicated(journal.observations()):
            sink(part)
    rows = reference.references()
    references = [reference.match(s.trace.name, s.units, rows[s.trace.name]) for s in studies]
    model = ModelRef(record["model"], record["identity"]["model_revision"], config.engine.dtype)
    return Pool(studies, references, model, sampling_of(config), config.seed)


def bench(
    home: Home, *, engine: str, limit: int | None, repetitions: int, quiet: bool
) -> dict[str, Any]:
    """Run it; returns what `--json` prints."""
    from tracelab.run.runs import run_config

    began = time.monotonic()
    config = config_of(home, engine, limit)
    run_config(config, home, quiet=quiet)
    sampled = time.monotonic() - began
    pool = read_pool(home, config)
    budgets = [share * pool.tokens() for share in SHARES]
    curves = [replay.curve(pool, v, repetitions, budgets) for v in replay.variants()]
    published = curves[0].points[-1]
    ours = curves[-1]
    reached = {c.name: replay.tokens_at(c, published.rmse) for c in curves}
    ratios = {
        name: None if tokens is None else published.tokens / tokens
        for name, tokens in reached.items()
    }
    at = min(ours.points, key=lambda p: abs(p.rmse - published.rmse))
    return {
        "token_ratio_at_equal_rmse": ratios[ours.name],
        "coverage_95": at.coverage,
        "value_coverage_95": at.value_coverage,
        "published_rmse": published.rmse,
        "published_tokens": published.tokens,
        "published_coverage_95": published.coverage,
        "token_ratios": ratios,
        "separation": replay.separation(pool),
        "curves": [asdict(c) for c in curves],
        "traces": len(pool.studies),
        "units": sum(len(s.units) for s in pool.studies),
        "reference_rollouts": pool.references[0].rollouts,
        "repetitions": repetitions,
        "engine": engine,
        "seconds_sampling": sampled,
        "seconds": time.monotonic() - began,
    }


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    click.echo(
        f"{found['traces']} held-out traces, {found['units']} sentences, reference from "
        f"{found['reference_rollouts']:,} rollouts a boundary; published recipe: "
        f"{found['published_tokens']:,.0f} tokens, RMSE of ΔV {found['published_rmse']:.4f}"
    )
    print_table(
        ("variant", "tokens", "share", "RMSE", "ΔV cov", "V cov", "top 5", "F1"),
        [
            (
                name,
                f"{p['tokens']:,.0f}",
                f"{p['tokens'] / found['published_tokens']:.3f}",
                f"{p['rmse']:.4f}",
                f"{p['coverage']:.3f}",
                f"{p['value_coverage']:.3f}",
                f"{p['recall_5']:.2f}",
                f"{p['f1']:.2f}",
            )
            for name, p in _points(found["curves"])
        ],
        numeric=(1, 2, 3, 4, 5, 6, 7),
    )
    print_table(
        ("variant", "times fewer tokens for the published RMSE"),
        [(n, "not reached" if r is None else f"{r:.1f}") for n, r in found["token_ratios"].items()],
        numeric=(1,),
    )
    print_table(
        ("at 100 rollouts a boundary", "AUC", "consequential", "filler", "filler covers 0"),
        [
            (
                name,
                f"{s['auc']:.3f}",
                str(s["consequential"]),
                str(s["filler"]),
                f"{s['filler_covers_0']:.3f}",
            )
            for name, s in found["separation"].items()
        ],
        numeric=(1, 2, 3, 4),
    )

    if "published" in found:
        p = found["published"]
        ratio = p["cost_ratio_at_equal_rmse"]
        reached = "not reached" if ratio is None else f"reached {ratio:.1f} times cheaper"
        click.echo(
            f"published accuracies of {p['traces']} traces taken as truth ({p['units']} changes); "
            f"the published error is {reached}"
        )
        print_table(
            ("variant", "share of tokens", "RMSE", "top-5 recall", "anchor F1", "coverage"),
            [
                ("published", "1.000", *(f"{p['published'][k]:.3f}" for k in _KEYS), ""),
                *(
                    ("all", f"{q['share']:.3f}", *(f"{q[k]:.3f}" for k in (*_KEYS, "coverage")))
                    for q in p["points"]
                ),
            ],
            numeric=(1, 2, 3, 4, 5),
        )


def _points(curves: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    return [(c["name"], p) for c in curves for p in c["points"]]


__all__ = ["Curve", "bench", "show"]
