"""Is a `localized` step the right one, in worlds that the audit was not made for?

A study of failed runs of one world (`tests.stats.faults`) is simulated, audited by what ships
(first round, what runs say of each other, rounds until it is settled, verdict), and compared with
what is true of it. Monte-Carlo errors are of a share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import numpy as np

from tests.stats.faults import BESIDE_SINGLE, FAULTS, Failure, controls, rerun, single
from tracelab.core.finding import Verdict
from tracelab.stats.value_curve import posterior
from tracelab.studies.audit import step
from tracelab.studies.audit.measure import ROUNDS, Learnt
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.rerun import Replay, Rerun
from tracelab.studies.audit.study import PRIOR_RUNS
from tracelab.studies.audit.verdict import Control, Place, conclude
from tracelab.view.tables.printed import print_table

_BESIDE = 4  # of so many runs one is of the world, where it stands beside single faults


@dataclass(slots=True)
class Audited:
    """One run under audit."""

    of: Failure
    control: Control
    keep: list[float] | None
    planned: step.Ints
    reruns: list[Rerun] = field(default_factory=list)
    verdict: Verdict | None = None

    def run(self, rng: np.random.Generator, wanted: step.Ints) -> None:
        """Re-execute so often from before each step."""
        for t, count in enumerate(wanted):
            self.reruns += [Rerun(*x) for x in rerun(rng, self.of, t, int(count))]
        self.planned = self.planned + wanted

    def tally(self) -> step.RerunTally:
        """What came of it."""
        return step.tally(
            len(self.of.keep), self.reruns, end=0.0, keep=self.keep, controls=self.control.scores
        )


def study(
    rng: np.random.Generator, failures: Sequence[Failure], options: AuditOptions, *, exact: bool
) -> list[Audited]:
    """Audit failed runs together."""
    runs = []
    for of in failures:
        scores = controls(rng, of, options.controls)
        control = Control.of([Replay(same_score=x == 0, score=x) for x in scores])
        size = len(of.keep)
        keep = list(of.keep) if exact else None
        one = Audited(of, control, keep, np.zeros(size, dtype=np.int64))
        if control.reproducible:
            one.run(rng, step.first_round(size, options.initial))
        runs.append(one)
    first = [r for r in runs if r.control.reproducible][:PRIOR_RUNS]
    prior = Learnt.of([r.tally().curve() for r in first])
    for one in runs:
        _settle(rng, one, prior, options)
    return runs


def _settle(rng: np.random.Generator, one: Audited, prior: Learnt, options: AuditOptions) -> None:
    size = len(one.of.keep)
    counts = found = None
    for _ in range(ROUNDS if one.control.reproducible else 0):
        counts = one.tally()
        curve = counts.curve()
        fitted = posterior(curve, prior.values)
        found = step.falls(curve, fitted, prior.kinds, options.delta, options.level)
        wanted = step.next_round(
            found, one.planned, batch=options.initial, cap=options.rollouts,
            confidence=options.confidence,
        )  # fmt: skip
        if not wanted.any():
            break
        one.run(rng, wanted)
    one.verdict = conclude(
        "t", Place(range(size), ["agent"] * size, [None] * size), one.control, counts, found,
        method=step.METHOD, evidence="executed", confidence=options.confidence,
        level=options.credible,
    )  # fmt: skip


def measure(
    worlds: Sequence[str], keeps: Sequence[bool], runs: int, seed: int
) -> Iterator[dict[str, Any]]:
    """Figures of every world and way to know p, as they come."""
    for world in worlds:
        beside = _BESIDE if world in BESIDE_SINGLE else 1
        for exact in keeps:
            rng = np.random.default_rng([seed, list(FAULTS).index(world), int(exact)])
            failures = [
                (single if k % beside else FAULTS[world])(rng) for k in range(runs * beside)
            ]
            done = study(rng, failures, AuditOptions(), exact=exact)[::beside]
            yield {"world": world, "p": "exact" if exact else "estimated", **figures(done)}


def figures(done: Sequence[Audited]) -> dict[str, Any]:
    """How often it is sure, how often rightly so, and how often the set holds the truth."""
    said = [(a.of, a.verdict) for a in done if a.verdict is not None]
    sure = [(of, v) for of, v in said if v.status == "localized"]
    named = said[0][0].truth is not None
    right = [v.decisive_step == of.truth or v.decisive_step in of.also for of, v in sure]
    held = [of.truth in v.credible_set for of, v in said if v.status in ("localized", "ambiguous")]
    found: dict[str, Any] = {"runs": len(said), "localized": len(sure) / len(said)}
    found["right"] = _share(right) if named else None
    found["right_se"] = _error(right) if named else None
    found["set_holds"] = _share(held) if named else None
    found["set_holds_se"] = _error(held) if named else None
    for status in ("ambiguous", "unidentifiable", "nonreproducible"):
        found[status] = sum(v.status == status for _, v in said) / len(said)
    steps = sum(len(a.of.keep) for a in done)
    found["reruns_a_step"] = sum(int(a.planned.sum()) for a in done) / steps
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in found.items()}


def _share(of: Sequence[bool]) -> float | None:
    return float(np.mean(of)) if of else None


def _error(of: Sequence[bool]) -> float | None:
    """Standard error of a share, never 0: Laplace's share instead of the observed one."""
    p = (sum(of) + 1) / (len(of) + 2)
    return float((p * (1 - p) / len(of)) ** 0.5) if of else None


def show(found: dict[str, Any]) -> None:
    """Print the table."""
    click.echo(
        f"Audits of simulated failures; rules were looked at on {', '.join(found['tuned_on'])}, "
        "under other seeds. No step is to be named where `right` is empty."
    )

    def text(row: dict[str, Any], name: str) -> str:
        v, se = row[name], row.get(f"{name}_se")
        return "" if v is None else f"{v:.2f}" + ("" if se is None else f" ±{se:.2f}")

    names = ("localized", "right", "set_holds", "ambiguous", "unidentifiable", "nonreproducible",
             "reruns_a_step")  # fmt: skip
    print_table(
        ("world", "p", *(n.replace("_", " ") for n in names)),
        [(r["world"], r["p"], *(text(r, n) for n in names)) for r in found["rows"]],
        numeric=tuple(range(2, 2 + len(names))),
    )
