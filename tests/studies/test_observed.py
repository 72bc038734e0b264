"""A number that is `ok` rests on observations: every study, every method, whatever fails.

What an engine or a grader fails at is drawn; a prior, a default or an interval without a width must
never stand where a measurement should.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.helpers import scripted_trace
from tests.studies.anchors.test_study import EVERY, SUFFIX, cases_of, seen
from tests.studies.cite.context import notes
from tests.studies.cite.context import world as contexts
from tests.studies.context import Answering, scripted, world
from tracelab.core.finding import Findings, Link, Metric, Score
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Observation, Outcome
from tracelab.core.seam import GradeRequest
from tracelab.engines.scripted import Script
from tracelab.grading.grader import Grader
from tracelab.stats.joint_curve import learn
from tracelab.stats.value_curve import Prior, informed, posterior
from tracelab.studies.anchors.options import AnchorsOptions
from tracelab.studies.anchors.study import Anchors
from tracelab.studies.audit import step
from tracelab.studies.audit.rerun import Rerun
from tracelab.studies.audit.study import Audit
from tracelab.studies.cite.methods.registry import METHODS
from tracelab.studies.cite.study import Cite

SHARES = st.sampled_from([0.0, 0.3, 0.7, 0.95, 1.0])


def least(metrics: Sequence[Metric], s: Score | Link) -> int:
    """What the metric of a number declares."""
    name = s.metric.partition(":")[0]
    return min(m.least for m in metrics if m.name == name and m.method in ("", s.method))


def held(found: Findings, metrics: Sequence[Metric]) -> None:
    """Every number has what it rests on; what has not is NULL."""
    for s in [*found.scores, *found.links]:
        assert s.status != "ok" or s.n >= max(least(metrics, s), 1), s
        assert s.status in ("ok", "certified") or (s.value, s.lo, s.hi) == (None, None, None), s
        measured = s.status in ("ok", "certified")
        for name in ("prob_matters", "prob_decisive", "p", "p_adjusted"):
            assert measured or s.extra.get(name) is None, s
    for row in found.rows:
        status = getattr(row, "status", None)
        assert status != "ok" or getattr(row, "n", 1) >= 1, row


@given(
    st.one_of(st.none(), st.floats()), st.integers(0, 9), st.integers(0, 9),
    st.booleans(), st.booleans(), st.one_of(st.none(), st.tuples(st.floats(), st.floats())),
)  # fmt: skip
def test_a_score_is_made_ok_by_observations_only(
    value: float | None, n: int, fewest: int, certified: bool, failed: bool,
    interval: tuple[float, float] | None,
) -> None:  # fmt: skip
    s = Score.of("t", "span", 0, "m", "x", value, level=0.9, n=n, least=fewest, failed=failed,
                 certified=certified, interval=interval)  # fmt: skip
    link = Link.of("t", "span", 0, 1, "m", "x", value, level=0.9, n=n, interval=interval,
                   certified=certified, failed=failed)  # fmt: skip
    assert s.status != "ok" or n >= max(fewest, 1)
    assert link.status != "ok" or n >= 1
    for made in (s, link):
        if made.status not in ("ok", "certified"):
            assert (made.value, made.lo, made.hi) == (None, None, None)


class Failing:
    """A grader that cannot grade some responses."""

    def __init__(self, share: float, rng: random.Random) -> None:
        self._grader, self._share, self._rng = Grader(), share, rng

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grader, name)

    def grade_many(self, requests: Iterable[GradeRequest]) -> list[Outcome]:
        return [
            Outcome(None, None, "ungraded", "broken") if self._rng.random() < self._share else o
            for o in self._grader.grade_many(requests)
        ]


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 999), SHARES, SHARES, st.sampled_from([1, 4, 6]), st.booleans())
@example(0, 1.0, 0.0, 4, True)
@example(1, 0.0, 1.0, 4, True)
def test_anchors(
    seed: int, lost: float, ungraded: float, rollouts: int, certificates: bool
) -> None:
    script, rng = Script.planted(), random.Random(seed)
    chosen = AnchorsOptions(
        methods=EVERY, allocation="uniform", rollouts=rollouts, similarity="lexical",
        force_suffix=SUFFIX, certificates=certificates,
    )  # fmt: skip
    grading: Any = Failing(ungraded, rng)
    w = world(chosen, script=script, grading=grading)
    answering = Answering(scripted(script), call=seen)

    def answer(items: Sequence[AnyItem]) -> Iterator[Sequence[Observation]]:
        for batch in answering(items):
            yield [
                Observation(o.key, o.replicate, finish_reason="error", error="died: x")
                if rng.random() < lost
                else o
                for o in batch
            ]

    traces = [scripted_trace(script, k) for k in range(2)]
    found = drive(Anchors().run(cases_of(traces, w), w.ctx), answer)
    held(found, Anchors.metrics)
    assert found.graded + found.failed + found.ungraded <= found.attempted
    if lost == 1 or ungraded == 1:
        assert found.graded == 0
        rests = {"certify", "attend", "suppress"} if lost < 1 else set()
        assert {s.method for s in found.scores if s.status == "ok"} <= rests


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 999), SHARES, st.booleans())
@example(0, 0.0, True)
@example(0, 1.0, False)
def test_cite(seed: int, lost: float, constant: bool) -> None:
    rng = random.Random(seed)

    def change(item: AnyItem, o: Observation) -> Observation:
        if rng.random() < lost:
            return Observation(o.key, o.replicate, finish_reason="error", error="died: x")
        if constant and o.token_logprobs is not None and item.kind == "score":
            return replace(o, token_logprobs=(-0.25,) * len(o.token_logprobs))
        return o

    w = contexts(methods=[*METHODS], ablations=16, prune=2)
    w.change = change
    found = w.run(notes("So 4 plus 7 is 11.")).findings
    held(found, Cite.metrics)
    if constant:
        for s in found.scores:
            assert s.lo is None or s.hi is None or s.hi > s.lo, "constant is not certain"
    if lost == 1:
        assert {s.status for s in found.scores} <= {"insufficient", "failed"}
        assert {r.status for r in found.rows if hasattr(r, "metric")} <= {"insufficient"}


@given(
    st.integers(1, 6).flatmap(
        lambda n: st.tuples(
            st.just(n),
            st.lists(
                st.tuples(
                    st.integers(0, n - 1), st.integers(0, n), st.sampled_from([0.0, 1.0, None])
                ),
                max_size=20,
            ),
            st.lists(st.sampled_from([0.0, 0.5, 1.0, float("nan")]), min_size=n, max_size=n),
        )
    )
)
def test_audit(
    case: tuple[int, list[tuple[int, int, float | None]], list[float]],
) -> None:
    size, rows, keep = case
    reruns = [Rerun(s, max(s, left), r) for s, left, r in rows]
    counts = step.tally(size, reruns, end=0.0, keep=keep)
    fitted = posterior(counts.curve(), Prior())
    found = step.falls(counts.curve(), fitted, learn([]), 0.15, 0.9)
    scores = step.scores("t", range(size), counts, fitted, found, evidence="executed")
    held(Findings(scores), Audit.metrics)
    assert {s.level for s in scores} == {0.9}
    for s in scores:
        i = s.unit_index
        near = [r for r in reruns if r.reward is not None and r.start <= i + 1]
        if s.metric != "value" and not any(r.start <= i <= r.left for r in near):
            assert s.status == "insufficient", "nothing was executed there"


@given(st.integers(1, 5), st.data())
def test_a_value_is_informed_by_no_more_than_there_is(size: int, data: st.DataObject) -> None:
    places = st.tuples(st.integers(0, size), st.integers(0, size)).map(sorted)
    rollouts = data.draw(st.lists(places, max_size=9))
    keep = data.draw(st.lists(st.floats(0, 1), min_size=size, max_size=size))
    n = [sum(a <= b <= z for a, z in rollouts) for b in range(size + 1)]
    left = [sum(z == b for _, z in rollouts) for b in range(size + 1)]
    found = informed(n, left, keep)
    for b in range(size + 1):
        assert n[b] - 1e-9 <= found[b] <= sum(z >= b for _, z in rollouts) + 1e-9
    assert (informed(n, left, [0.0] * size) == n).all(), "nothing of what the model never writes"
