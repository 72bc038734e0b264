"""The parts of the benchmark in order, the tables, the JSON."""

from __future__ import annotations

import logging
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.cite import quality, speed, truth
from benchmarks.cite.peer import Peer, load
from benchmarks.cite.stand_in import random_model
from benchmarks.cite.work import Worker
from tracelab.studies.cite.methods.ablate import Ablate
from tracelab.studies.cite.methods.context_cite import ContextCite
from tracelab.studies.cite.methods.leave_one_out import LeaveOneOut
from tracelab.testbed import MODEL_DIR
from tracelab.view.tables.printed import print_table

PARTS = ("speed", "planted", "quality")
DEFAULT_ENGINE = "transformers"
"""What `tracelab cite` picks without being told."""
METHODS = [Ablate.name, ContextCite.name, LeaveOneOut.name]
BUNDLED, RANDOM = "testbed (1.1 M)", "random Qwen2 (16 M)"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured.

    Attributes:
        rounds: Timed rounds of the speed part.
        each: Cases of the testbed's own size a round.
        notes: Larger contexts on the bundled model; 0 leaves them out.
        notes_random: Contexts on the larger model; 0 leaves it out.
        contexts: Testbed contexts.
        hinted: Questions with a wrong hint.
        enumerated: Contexts of which every mask is scored.
        simulated: Simulated contexts, by their sources.
    """

    rounds: int
    each: int
    notes: int
    notes_random: int
    contexts: int
    hinted: int
    enumerated: int
    simulated: dict[int, int]


FULL = Sizes(3, 3, 100, 20, 200, 60, 8, {20: 60, 100: 50, 500: 32})
QUICK = Sizes(1, 2, 0, 0, 12, 10, 2, {20: 12, 100: 8, 500: 6})


def bench(
    *, engines: Sequence[str], sizes: Sizes, parts: Sequence[str], quiet: bool
) -> dict[str, Any]:
    """Run it; returns what `--json` prints.

    Args:
        engines: `transformers`, `vllm` or both; the other parts use the first.
        sizes: How much.
        parts: Some of `PARTS`.
        quiet: No progress on stderr.

    Raises:
        ConfigError: The package context-cite is not installed.
    """
    began = time.monotonic()
    peer_parts = load()
    _quiet()

    def tell(line: str) -> None:
        if not quiet:
            click.echo(f"[{time.monotonic() - began:5.0f} s] {line}", err=True)

    out: dict[str, Any] = {
        "speedup_vs_context_cite": None, "planted_auc_32": None, "engine": engines[0],
    }  # fmt: skip
    if "speed" in parts:
        out["speed"] = _speed(engines, sizes, tell)
        first = out["speed"][0]["speedup"]
        out["speedup_vs_context_cite"] = first.get(DEFAULT_ENGINE, first[engines[0]])
        out["speedup_by_engine"] = first
    if "planted" in parts:
        worker = Worker(engines[0], "testbed", ablations=truth.ABLATIONS, methods=METHODS)
        try:
            counted = truth.measure(worker, sizes.contexts, sizes.hinted, sizes.enumerated, tell)
        finally:
            worker.close()
        found = out["planted"] = truth.to_json(counted)
        out["planted_auc_32"] = found["needed_auc"]["weight"]
        out["redundant_both_found"] = found["redundant"]["both_in_top_k"].get("weight")
        out["redundant_both_found_leave_one_out"] = found["redundant"]["both_in_top_k"].get("alone")
        out["irrelevant_cover_0_95"] = found["irrelevant_cover_0"]["response"]["share"]
        exact = found["exact"]
        out["exact_cover_95"] = exact["coverage"].get("0.95 at 32", {}).get("share")
        out["exact_cover_90"] = exact["coverage"].get("0.9 at 32", {}).get("share")
        out["placebo_cover_0_95"] = exact["placebo"].get("0.95 at 32", {}).get("share")
        out["memory_parametric"] = found["memory"]["parametric"]
        out["hints_first"] = found["hints"]["ranked_first"].get("weight")
    if "quality" in parts:
        solver = peer_parts.LassoRegression()

        def published(masks: Any, y: Any, tokens: int) -> Any:
            return np.asarray(solver.fit(masks, y, tokens)[0], np.float64)

        out["quality"] = quality.measure(sizes.simulated, published, tell)
        out |= _summary(out["quality"])
    return {**out, "seconds": time.monotonic() - began}


def _speed(
    engines: Sequence[str], sizes: Sizes, tell: Callable[[str], None]
) -> list[dict[str, Any]]:
    out = []
    with tempfile.TemporaryDirectory(prefix="tracelab-bench-") as folder:
        jobs: list[tuple[str, str, int | None, int]] = [(BUNDLED, "testbed", None, sizes.each)]
        if sizes.notes:
            jobs.append((BUNDLED, "testbed", sizes.notes, 1))
        if sizes.notes_random:
            made = random_model(Path(folder) / "model", Path(MODEL_DIR))
            jobs.append((RANDOM, made, sizes.notes_random, 1))
        for model in dict.fromkeys(path for _, path, _, _ in jobs):
            workers: dict[str, Worker] = {}
            try:
                for engine in engines:
                    workers[engine] = Worker(engine, model, ablations=speed.ABLATIONS)
                peer = Peer(next(iter(workers.values())).path)
                for name, path, notes, each in jobs:
                    if path == model:
                        cases = speed.group(notes, sizes.rounds, each)
                        timing = speed.measure(name, cases, workers, peer, tell)
                        out.append(timing.to_json())
            finally:
                for worker in workers.values():
                    worker.close()
    return out


def _summary(cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The figures that are judged, by name."""

    def cell(method: str, sources: int, ablations: int) -> dict[str, Any]:
        wanted = {"method": method, "sources": sources, "ablations": ablations}
        return next((c for c in cells if wanted.items() <= c.items()), {})

    ours = [c for c in cells if c["method"] == quality.DEFAULT]
    behind = [
        c for c in ours for k in ("lds", "precision") if c[f"{k}_gain"] < -2 * (_se(c, k) or 0.0)
    ]
    most = max((c["sources"] for c in cells), default=0)
    every = [c for c in cells if c.get("intervals")]
    total = sum(c["intervals"] for c in every)
    return {
        "coverage_90": sum(c["coverage_90"] * c["intervals"] for c in every) / (total or 1),
        "coverage_90_range": [f(c["coverage_90"] for c in every) for f in (min, max)],
        "cells_behind_context_cite": [f"{c['sources']} sources, {c['ablations']}" for c in behind],
        "precision_most_sources": {
            "sources": most,
            "context_cite_64": cell(quality.PEER, most, 64).get("precision"),
            "tracelab_32": cell(quality.DEFAULT, most, 32).get("precision"),
            "tracelab_prior_32": cell(quality.PRIOR, most, 32).get("precision"),
        },
    }


def _se(cell: dict[str, Any], metric: str) -> float | None:
    value: float | None = cell[f"{metric}_gain_se"]
    return value


def _quiet() -> None:
    """No progress bars and notes of the libraries between our own lines."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("ContextCite").setLevel(logging.ERROR)


def show(found: dict[str, Any]) -> None:
    """Print the tables."""
    if "speed" in found:
        _show_speed(found["speed"])
    if "planted" in found:
        _show_planted(found["planted"])
    if "quality" in found:
        _show_quality(found["quality"], found)
    sys.stdout.flush()


def _show_speed(rows: Sequence[dict[str, Any]]) -> None:
    click.echo(
        f"Seconds for {rows[0]['ablations']} ablations, medians of {rows[0]['rounds']} alternating "
        "rounds; loading models, starting engines and writing responses left out"
    )
    print_table(
        ("model", "notes", "side", "seconds", "times faster", "in CPU time"),
        [
            (
                r["model"], "own" if r["sources"] is None else str(r["sources"]), side,
                f"{s:.2f}", _two(r["speedup"].get(side)), _two(r["cpu_speedup"].get(side)),
            )
            for r in rows
            for side, s in r["seconds"].items()
        ],
        numeric=(1, 3, 4, 5),
    )  # fmt: skip


def _show_planted(p: dict[str, Any]) -> None:
    click.echo(
        f"\nPlanted truth: {p['contexts']} fresh contexts, {p['sources']} notes, "
        f"{p['ablations_mean']:.1f} ablations each"
    )
    names = {"weight": "weight", "effect": "effect", "published": "context-cite",
             "alone": "leave-one-out"}  # fmt: skip
    needed, relevant = p["needed_auc"], p["relevant_auc"]
    print_table(
        ("ranking", "AUC needed", "AUC with pairs", "pairs: both found", "hint first"),
        [
            (
                shown, _four(needed[k]), _four(relevant[k]),
                _three(p["redundant"]["both_in_top_k"].get(k)),
                _three(p["hints"]["ranked_first"].get(k)),
            )
            for k, shown in names.items()
        ],
        numeric=(1, 2, 3, 4),
    )  # fmt: skip
    r, m, s, e = p["redundant"], p["memory"], p["stated"], p["exact"]
    zero = p["irrelevant_cover_0"]
    lines = [
        ("redundant pairs with both lower ends above 0", r["both_lower_ends_above_0"], r["pairs"]),
        ("distractors whose 95 % interval holds 0, response", zero["response"]["share"],
         zero["response"]["intervals"]),
        ("the same, single statements", zero["statements"]["share"],
         zero["statements"]["intervals"]),
        ("statements that need no note labelled memory or derived", m["parametric"],
         m["statements"]),
        ("statements that repeat a note labelled grounded", s["grounded"], s["statements"]),
        ("of these, the note first", s["own_note_first"], s["statements"]),
        ("distractors shown to add more than 1 nat, response",
         zero["response"]["shown_above_1_nat"], zero["response"]["intervals"]),
        *((f"exact effects within their interval, {k}", v["share"], v["intervals"])
          for k, v in e["coverage"].items()),
        *((f"placebos whose interval holds 0, {k}", v["share"], v["intervals"])
          for k, v in e["placebo"].items()),
        ("distractors with an exact average effect above 0.1 nat",
         e["distractor_effect"]["above_0.1_nat"], e["distractor_effect"]["effects"]),
    ]  # fmt: skip
    print_table(
        ("figure", "share", "n"), [(a, _three(b), str(n)) for a, b, n in lines], numeric=(1, 2)
    )


def _show_quality(cells: Sequence[dict[str, Any]], found: dict[str, Any]) -> None:
    click.echo(
        "\nSimulated contexts of n sources, m ablations: LDS on fresh masks, precision@k, each "
        "with its gain\nover context-cite (paired, ± standard error); coverage of 90 % intervals"
    )
    print_table(
        ("n", "m", "method", "LDS", "gain", "prec.", "gain", "cover"),
        [
            (
                str(c["sources"]), str(c["ablations"]), c["method"].removeprefix("tracelab, "),
                _two(c["lds"]), _gain(c, "lds"), _two(c["precision"]), _gain(c, "precision"),
                _three(c.get("coverage_90")),
            )
            for c in cells
        ],
        numeric=(0, 1, 3, 4, 5, 6, 7),
    )  # fmt: skip
    behind = found["cells_behind_context_cite"]
    click.echo(
        "default behind ContextCite by more than two standard errors: "
        + (", ".join(behind) if behind else "nowhere")
    )


def _gain(cell: dict[str, Any], metric: str) -> str:
    if f"{metric}_gain" not in cell:
        return ""
    return f"{cell[f'{metric}_gain']:+.2f} ± {_two(_se(cell, metric))}"


def _two(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _three(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
