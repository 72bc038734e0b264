"""The run of the published recipe that makes the pool; what is replayed from it, in tables."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, cast

import click

from benchmarks.anchors import reference, replay
from benchmarks.anchors.replay import PUBLISHED, Pool
from tracelab.run.config import RunConfig, parse_config
from tracelab.run.execute import Work, run_config
from tracelab.run.loop import Unwatched
from tracelab.run.progress import RunProgress
from tracelab.run.wiring import wire_recorded
from tracelab.store.home import Home
from tracelab.store.journal import Journal, deduplicated
from tracelab.studies.anchors.case import Reasoning
from tracelab.view.tables.printed import print_table

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
            "anchors": {
                "methods": ["resample"],
                "allocation": "uniform",
                "rollouts": PUBLISHED,
            },
        },
        "benchmarks anchors",
    )


@contextmanager
def opened_pool(home: Home, config: RunConfig) -> Iterator[Pool]:
    """The run's rollouts, taken again from its journal, with their references."""
    with Journal(str(home.runs), RUN) as journal, RunProgress(quiet=True) as progress:
        record = journal.read_json("run.json")
        assert record is not None, "it has just been run"
        wired = wire_recorded(config, record["identity"]["model_revision"])
        with Work(config, wired, journal, lambda _: None, progress) as work:
            flow = work.restored(lambda _: None)
            inputs, _ = work.loop(Unwatched(), ask=False).drive(flow)
            cases = cast(Sequence[Reasoning], inputs.cases)
            rows = reference.references()
            known = [reference.match(c.trace.name, c.units, rows[c.trace.name]) for c in cases]
            observed = (o for part in deduplicated(journal.observations()) for o in part)
            yield Pool(cases, known, work.ctx, {(o.key, o.replicate): o for o in observed})


def bench(
    home: Home, *, engine: str, limit: int | None, repetitions: int, quiet: bool
) -> dict[str, Any]:
    """Run it; returns what `--json` prints."""
    began = time.monotonic()
    config = config_of(home, engine, limit)
    run_config(config, home, quiet=quiet, in_process=True)
    sampled = time.monotonic() - began
    with opened_pool(home, config) as pool:
        found = compared(pool, repetitions)
    return found | {
        "engine": engine,
        "seconds_sampling": sampled,
        "seconds": time.monotonic() - began,
    }


def compared(pool: Pool, repetitions: int) -> dict[str, Any]:
    """Every variant, replayed from a pool."""
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
        "traces": len(pool.cases),
        "units": sum(len(c.units) for c in pool.cases),
        "reference_rollouts": pool.references[0].rollouts,
        "repetitions": repetitions,
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
