"""Step attribution against brute force, closed forms, and runs whose decisive step is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.stats.value_curve import Posterior, posterior
from tracelab.studies.audit.measure import Learnt
from tracelab.studies.audit.rerun import Replay, Rerun
from tracelab.studies.audit.step import (
    Falls,
    RerunTally,
    argmax_rescue,
    falls,
    first_round,
    next_round,
    scores,
    tally,
)
from tracelab.studies.audit.verdict import Control, Correction, Place, conclude

RERUNS = st.integers(1, 6).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.lists(
            st.tuples(st.integers(0, n - 1), st.integers(0, n), st.sampled_from([0.0, 1.0, None])),
            max_size=12,
        ),
    )
)


def drawn(value: np.ndarray, keep: np.ndarray, per: int, rng: np.random.Generator) -> list[Rerun]:
    """Re-executions of a run whose V and p are known, from before every action."""
    size = len(keep)
    other = np.clip((value[:-1] - keep * value[1:]) / (1 - keep), 0, 1)
    found = []
    for start in range(size):
        for _ in range(per):
            at = start
            while at < size and rng.random() < keep[at]:
                at += 1
            reward = value[-1] if at == size else float(rng.random() < other[at])
            found.append(Rerun(start, at, reward))
    return found


def located(counts: RerunTally, prior: Learnt | None = None) -> tuple[Posterior, Falls]:
    """The curve and its falls, as an audit finds them."""
    prior = prior or Learnt.of([])
    fitted = posterior(counts.curve(), prior.values)
    return fitted, falls(counts.curve(), fitted, prior.kinds, 0.15, 0.95)


@given(RERUNS)
def test_a_rerun_counts_where_it_passes(
    case: tuple[int, list[tuple[int, int, float | None]]],
) -> None:
    size, rows = case
    reruns = [Rerun(s, max(s, left), r) for s, left, r in rows]
    counts = tally(size, reruns, end=0.0)
    for b in range(size + 1):
        there = [r.reward for r in reruns if r.start <= b <= r.left and r.reward is not None]
        assert counts.n[b] == len(there)
        assert counts.total[b] == sum(there)
    assert counts.left_n.sum() + counts.failed == len(reruns)
    assert np.all((counts.keep >= 0) & (counts.keep <= 1))


def test_forced_reruns_are_no_samples_and_censored_ones_only_bound() -> None:
    reruns = [Rerun(0, 0, 1.0), Rerun(0, 0, None, censored=True), Rerun(0, 0, 0.0, forced=True)]
    counts = tally(1, reruns, end=0.0)
    assert counts.n[0] == 1 and counts.total[0] == 1
    assert counts.coverage == 0.5
    ends = [tally(1, reruns, end=0.0, censored_as=r) for r in (0.0, 1.0)]
    assert [t.total[0] / t.n[0] for t in ends] == [0.5, 1.0]


def test_only_a_fall_is_blamed() -> None:
    """The value rises at action 1 and falls, by less, at action 3: action 3 decided the failure."""
    value, keep = np.array([0.1, 0.1, 0.7, 0.7, 0.0, 0.0]), np.full(5, 0.05)
    reruns = drawn(value, keep, 60, np.random.default_rng(0))
    counts = tally(5, reruns, end=0.0, keep=list(keep))
    _, found = located(counts)
    assert found.order[0] == 3 and found.prob[3] > 0.95
    assert found.lo[3] < 0.7 * 0.95 < found.hi[3] or found.mean[3] == pytest.approx(0.7, abs=0.1)
    assert found.hi[1] < 0
    assert argmax_rescue(counts) in (2, 3)


def test_nothing_is_blamed_where_nothing_falls() -> None:
    reruns = [Rerun(t, t, 0.0) for t in range(4) for _ in range(8)]
    counts = tally(4, reruns, end=0.0)
    _, found = located(counts)
    assert found.none > 0.9
    verdict = conclude(
        "t", Place([0, 2, 4, 6], ["a"] * 4, [None] * 4), Control(4, 4, 4), counts, found,
        method="m", evidence="executed", confidence=0.9,
    )  # fmt: skip
    assert (verdict.status, verdict.who, verdict.decisive_step) == ("unidentifiable", "task", None)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.5, 0.99))
def test_a_credible_set_is_the_smallest_that_holds_its_level(
    weights: list[float], level: float
) -> None:
    mass = np.array(weights) + 1e-6
    prob = mass / mass.sum()
    found = Falls(prob, 0.0, prob, prob, prob, 0.9)
    chosen = found.credible_set(level)
    held = sum(prob[i] for i in chosen)
    assert held >= level - 1e-6
    assert held - min(prob[i] for i in chosen) <= level + 1e-6


@pytest.mark.parametrize(
    ("second", "same_score", "status"),
    [(0.1, 4, "localized"), (0.9, 4, "ambiguous"), (0.1, 3, "ambiguous")],
)
def test_a_step_is_localized_only_where_it_alone_decided(
    second: float, same_score: int, status: str
) -> None:
    """Not where another step fell too, be it by less, nor where controls ended otherwise."""
    reruns = [Rerun(t, t, float(t < 2)) for t in range(4) for _ in range(8)]
    fall = np.array([0.0, 0.6, 0.3, 0.0])
    found = Falls(
        np.array([0.0, 0.95, 0.04, 0.0]), 0.01, fall, fall - 0.2, fall + 0.2, 0.95,
        each=np.array([0.0, 0.99, second, 0.0]),
    )  # fmt: skip
    verdict = conclude(
        "t", Place([0, 2, 4, 6], ["a"] * 4, [None] * 4), Control(4, same_score, same_score),
        tally(4, reruns, end=0.0), found, method="m", evidence="executed", confidence=0.9,
    )  # fmt: skip
    assert (verdict.status, verdict.decisive_step) == (status, 2)


@pytest.mark.slow
def test_the_posterior_of_the_decisive_step_is_calibrated() -> None:
    """Drawn change points: the named step is right as often as it says, the set covers."""
    rng = np.random.default_rng(3)
    runs = []
    for _ in range(70):
        size = int(rng.integers(4, 10))
        at = int(rng.integers(size))
        before = rng.uniform(0.35, 0.9)
        value = np.where(np.arange(size + 1) <= at, before, rng.uniform(0, 0.08))
        value[-1] = 0.0
        keep = np.where(np.arange(size) == at, 0.05, 0.85)
        runs.append((at, tally(size, drawn(value, keep, 3, rng), end=0.0, keep=list(keep))))
    prior = Learnt.of([c.curve() for _, c in runs[:30]])
    found = [(at, located(c, prior)[1]) for at, c in runs]
    right = np.array([f.order[0] == at for at, f in found])
    said = np.array([f.prob.max() for _, f in found])
    covered = np.array([at in f.credible_set(0.9) for at, f in found])
    assert right.mean() > 0.85
    assert covered.mean() > 0.88
    # Not boastful; modest, since a study of single faults may not make it sure of one elsewhere.
    assert right.mean() - 0.2 < said.mean() < right.mean() + 0.12


def test_more_is_asked_only_while_it_is_open() -> None:
    def known(*prob: float) -> Falls:
        p = np.array(prob)
        return Falls(p, 1 - p.sum(), p, p, p, 0.9, dominant=p.max())

    planned = first_round(3, 4)
    assert list(planned) == [4, 4, 4]
    sure = next_round(known(0.0, 0.95, 0.0), planned, batch=4, cap=16, confidence=0.9)
    assert not sure.any()
    hopeless = next_round(known(0.0, 0.02, 0.0), planned, batch=4, cap=16, confidence=0.9)
    assert not hopeless.any()
    open_ = next_round(known(0.5, 0.4, 0.0), planned, batch=4, cap=6, confidence=0.9)
    assert list(open_) == [2, 2, 2]
    spent = next_round(known(0.5, 0.4, 0.0), np.full(3, 6), batch=4, cap=6, confidence=0.9)
    assert not spent.any()


def test_a_step_that_dominates_is_told_from_its_neighbours_by_more_of_what_lies_between() -> None:
    p = np.array([0.0, 0.95, 0.02, 0.0])
    planned = np.array([4, 4, 15, 16])
    for rival, wanted in ((3, [0, 0, 4, 4]), (0, [0, 4, 0, 0]), (1, [0, 0, 0, 0])):
        outdone = np.ones(4)
        outdone[rival] = 0.95 if rival != 1 else 1.0
        found = Falls(p, 0.03, p, p, p, 0.9, each=p, dominant=0.93, outdone=outdone)
        more = next_round(found, planned, batch=4, cap=16, confidence=0.9)
        assert list(more) == wanted
        assert found.alone(0.9) is (rival == 1)


def test_a_score_that_is_a_coin_is_no_fall_at_the_end() -> None:
    """It failed once, which is why it is audited; four controls that fail too are .24 likely."""
    reruns = [Rerun(t, t, float(k < 4)) for t in range(4) for k in range(12)]
    found = [located(tally(4, reruns, end=0.0, controls=seen))[1] for seen in ((), (0.0,) * 4)]
    assert found[0].prob[3] > 0.8 and found[1].prob[3] < 0.5
    assert not found[1].alone(0.9)


def test_a_run_that_does_not_fail_again_is_no_failure_to_explain() -> None:
    place = Place([0, 2], ["planner", "worker"], [None, "lookup"])
    verdict = conclude(
        "t", place, Control(8, 1, 2, differs=1), method="m", evidence="executed", confidence=0.9
    )
    assert (verdict.status, verdict.who, verdict.tool) == (
        "nonreproducible", "environment", "lookup",
    )  # fmt: skip
    assert verdict.extra["differs_at"] == 2


def test_scores_are_null_without_observations() -> None:
    counts = tally(2, [Rerun(0, 0, 1.0)], end=0.0)
    fitted, falling = located(counts)
    found = scores("t", [0, 2], counts, fitted, falling, evidence="replayed")
    raw = [s for s in found if s.method == "re-execute"]
    assert [s.status for s in raw] == ["insufficient"] * 2
    assert all(s.value is None and s.lo is None for s in raw)
    blame = [s.value for s in found if s.metric == "p_decisive"]
    assert sum(v for v in blame if v is not None) <= 1 + 1e-9
    assert {s.evidence for s in found} == {"replayed"}


@pytest.mark.parametrize(("wins", "n", "restores"), [(7, 8, True), (3, 8, False), (0, 0, False)])
def test_a_correction_must_restore_success(wins: float, n: int, restores: bool) -> None:
    assert Correction(1, "x", "rollout", wins, n).restores(0.5, 0.1, 0.15) is restores
    assert not Correction(1, "x", "rollout", wins, n).restores(0.5, 0.9, 0.15)


def test_replays_that_could_not_be_done_are_counted_apart() -> None:
    replays = [
        Replay(True, None, "answer"), Replay(True, 2, "answer"), Replay(False, 2, "limit"),
        Replay(error="broken"), Replay(False, 1, "limit"),
    ]  # fmt: skip
    control = Control.of(replays)
    assert (control.replays, control.reproduced, control.same_score, control.failed) == (4, 1, 2, 1)
    assert (control.differs, control.ended, control.error) == (2, "limit", "broken")
    assert not control.reproducible
    assert not Control.of([Replay(error="broken")]).reproducible
    assert Control.of([Replay(True), Replay(False)]).reproducible
