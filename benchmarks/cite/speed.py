"""Seconds for the same number of ablations: ContextCite's package, and tracelab.

From the texts of a context, a query and a response to the scores of all sources. Left out on both
sides: loading the model, starting the engine, writing the response. Rounds alternate between the
sides, and each has contexts of its own, so that no prefix cache knows them. Each side has the
processors that it takes by itself: tracelab scores a batch on each; the package is timed with one
thread and with torch's own number, and the faster of the two counts.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.cite.peer import Case, Peer
from tracelab.testbed import Problem, problems
from tracelab.testbed.chain import write
from tracelab.testbed.market import OPENING, QUESTIONS

if TYPE_CHECKING:
    from benchmarks.cite.work import Worker

ABLATIONS = 64
TEMPLATE = OPENING + " {context} {query}"
SEED = 7100
TARGET = "response"
"""What is explained: ContextCite's default."""
CPU = "/cpu"
PEER = "context-cite"
PEER_ALL = "context-cite, all threads"


@dataclass(frozen=True, slots=True)
class Group:
    """Cases of one size, by round: `rounds + 1` lists, the first to warm up."""

    sources: int | None
    cases: tuple[tuple[Case, ...], ...]


def group(sources: int | None, rounds: int, each: int) -> Group:
    """Fresh cases.

    Args:
        sources: Notes in each context; None: the question's own.
        rounds: Timed rounds.
        each: Cases a round.
    """
    drawn = iter(problems((rounds + 1) * each, SEED + (sources or 0), missing=False, hinted=False))
    return Group(
        sources,
        tuple(tuple(case(next(drawn), sources) for _ in range(each)) for _ in range(rounds + 1)),
    )


def case(problem: Problem, sources: int | None) -> Case:
    """A question; its own notes come first, then those of other questions."""
    notes = [f.text for f in problem.facts]
    rng = random.Random(problem.problem_id)
    while sources is not None and len(notes) < sources:
        (other,) = problems(1, rng.getrandbits(30), missing=False, hinted=False)
        notes += [f.text for f in other.facts]
    a, b = problem.goods
    return Case(
        " ".join(notes[:sources]),
        QUESTIONS[problem.phrasing].format(a=a, b=b, shop=problem.shop),
        TEMPLATE,
        write(problem, rng).text,
    )


@dataclass(slots=True)
class Timing:
    """Seconds of each timed round, by side: on the clock, and of this process's processor time.

    On a busy machine the second is the steadier, and it does not know how many processors were
    used; vLLM works in processes of its own and has none.
    """

    model: str
    sources: int | None
    cases: int
    seconds: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self, side: str, *, cpu: bool = False) -> list[float]:
        """How many times faster than the package, round by round."""
        took = self.cpu if cpu else self.seconds
        best = min(took[PEER], took.get(PEER_ALL, took[PEER]), key=median)
        return [p / t for p, t in zip(best, took[side], strict=True)]

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        sides = [s for s in self.seconds if s not in (PEER, PEER_ALL)]
        return {
            "model": self.model, "sources": self.sources, "cases": self.cases,
            "ablations": ABLATIONS, "rounds": len(self.seconds[PEER]),
            "processors": len(os.sched_getaffinity(0)),
            "seconds": {s: median(v) for s, v in self.seconds.items()},
            "speedup": {s: median(self.ratios(s)) for s in sides},
            "speedup_range": {s: [min(self.ratios(s)), max(self.ratios(s))] for s in sides},
            "cpu_speedup": {s: median(self.ratios(s, cpu=True)) for s in sides if s in self.cpu},
        }  # fmt: skip


def measure(
    name: str, found: Group, workers: dict[str, Worker], peer: Peer, tell: Callable[[str], None]
) -> Timing:
    """Time all sides on a group of cases; sides take turns at every case.

    Args:
        name: Of the model.
        found: The cases.
        workers: tracelab's side, by engine.
        peer: The package.
        tell: Gets a line about the progress.
    """
    import torch

    cores = len(os.sched_getaffinity(0))
    peers = {PEER: 1, PEER_ALL: cores} if cores > 1 else {PEER: 1}
    before = torch.get_num_threads()
    timing = Timing(name, found.sources, len(found.cases[0]))
    for number, cases in enumerate(found.cases):
        total: dict[str, list[float]] = {}
        for c in cases:
            for side in (*peers, *workers):
                torch.set_num_threads(peers.get(side, before))
                clock, cpu = time.perf_counter(), time.process_time()
                if side in peers:
                    peer.attribute(c, ABLATIONS)
                else:
                    workers[side].cite([c], TARGET)
                took = time.perf_counter() - clock, time.process_time() - cpu
                total.setdefault(side, []).append(took[0])
                total.setdefault(side + CPU, []).append(took[1])
        if not number:
            continue
        for side in (*peers, *workers):
            timing.seconds.setdefault(side, []).append(sum(total[side]))
            if side != "vllm":
                timing.cpu.setdefault(side, []).append(sum(total[side + CPU]))
    torch.set_num_threads(before)
    shown = (f"{s} {median(v):.2f} s" for s, v in timing.seconds.items())
    tell(f"speed, {name}, {found.sources or 'own'} notes: {', '.join(shown)}")
    return timing
