"""Resampling importance against the closed-form truth of the scripted process."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import scripted_trace, sentences
from tests.studies.anchors.anchors import case
from tracelab.core.item import ModelRef, Outcome, Rollout, Sampling
from tracelab.core.unit import Unit
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.stats.value_curve import Prior
from tracelab.studies.anchors import pooled, resample
from tracelab.studies.anchors.grouping import MIN_ROLLOUTS, boundary_tokens
from tracelab.studies.anchors.scoring import with_fdr
from tracelab.studies.anchors.tally import Tally, tally

REF = ModelRef("scripted", "planted-1", "float64")
PLANTED = Script.planted()
DRAWN = st.tuples(st.integers(0, 8), st.integers(0, 40), st.sampled_from([0.0, 0.5, 1.0, None]))
"""A rollout: where it starts, how long it follows the trace, its reward."""


def scored(c, *, exact: bool = True, **options):
    counts = tally(c.units, c.rollouts, c.keep if exact else None, **options)
    return counts, {(s.metric, s.unit_index): s for s in resample.estimate("t", c.units, counts)}


@pytest.mark.parametrize("exact", [True, False])
def test_values_and_differences_match_the_closed_form(exact: bool) -> None:
    c = case(PLANTED, seed=3, n=400)
    counts, by = scored(c, exact=exact)
    for b, v in enumerate(c.truth):
        s = by["value", b]
        assert s.value == pytest.approx(v, abs=5 * np.sqrt(0.25 / s.n))
    for i in range(len(c.units)):
        s = by["delta_value", i]
        if s.status == "ok":
            assert s.value == pytest.approx(c.truth[i + 1] - c.truth[i], abs=s.hi - s.lo + 1e-9)
        else:
            assert counts.left_n[i] < MIN_ROLLOUTS


def mean_error(shift: int, exact: bool) -> tuple[float, float]:
    """Mean error of recycled values over many traces, signed so that a leak adds up, and its SE.

    A rollout counted one token too far is counted as if it had written the sentence it left.
    """
    errors = []
    for seed in range(60):
        c = case(Script.random(np.random.default_rng(seed)), seed, n=12, good="1", shift=shift)
        counts, _ = scored(c, exact=exact)
        with np.errstate(invalid="ignore"):
            value = counts.total / counts.n
        # Towards the value before the sentence, which is where a leak comes from.
        pull = np.sign(c.truth[:-1] - c.truth[1:])
        wrong = (value[1:] - c.truth[1:]) * pull
        errors.append(np.nansum(wrong * (np.abs(np.diff(c.truth)) > 0.02)))
    return float(np.mean(errors)), float(np.std(errors) / np.sqrt(len(errors)))


def test_recycling_is_unbiased_and_an_off_by_one_diverge_token_is_not() -> None:
    mean, error = mean_error(0, exact=True)
    assert abs(mean) < 3 * error
    late, error = mean_error(1, exact=True)
    assert late > 4 * error


def test_recycling_uses_rollouts_at_every_boundary_they_are_samples_from() -> None:
    c = case(PLANTED, seed=1, n=30)
    with_it, _ = scored(c)
    without, _ = scored(c, recycle=False)
    cuts = boundary_tokens(c.units)
    by_hand = [sum(r.start_token <= t <= r.diverge_token for r in c.rollouts) for t in cuts]
    assert with_it.n.tolist() == by_hand
    assert without.n.tolist() == [30] * len(cuts)
    assert with_it.left_n.sum() == len(c.rollouts)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "exact", "most"),
    [
        (5, True, 0.975),
        (5, False, 0.99),
        pytest.param(12, True, 0.97, marks=pytest.mark.long),
        pytest.param(12, False, 0.975, marks=pytest.mark.long),
    ],
)
def test_intervals_cover_the_closed_form(n: int, exact: bool, most: float) -> None:
    """Nominal 95 % over random processes, at the small n a user would begin with.

    Five rollouts and an unknown share are conservative: a fifth of the sentences were never
    replaced, and what might have stood there may be worth anything.
    """
    value, delta = [], []
    for seed in range(160):
        c = case(Script.random(np.random.default_rng(seed)), seed, n=n, good="1")
        _, by = scored(c, exact=exact)
        for (metric, i), s in by.items():
            if s.status != "ok":
                continue
            true = c.truth[i] if metric == "value" else c.truth[i + 1] - c.truth[i]
            hit = s.lo - 1e-9 <= true <= s.hi + 1e-9
            (value if metric == "value" else delta).append(hit)
    assert len(value) > 900 and len(delta) > 360
    assert 0.94 <= np.mean(value) <= 0.98
    assert 0.94 <= np.mean(delta) <= most


def test_certificates_hold_whatever_the_alternatives_are_worth() -> None:
    certified = 0
    for seed in range(60):
        c = case(Script.random(np.random.default_rng(seed), slots=4), seed, n=1, good="1")
        counts = tally(c.units, [], c.keep)
        for s in resample.estimate("t", c.units, counts, certify_below=0.3):
            if s.metric != "delta_value":
                continue
            true = c.truth[s.unit_index + 1] - c.truth[s.unit_index]
            if s.status == "certified":
                certified += 1
                assert s.value is None
                assert s.lo - 1e-9 <= true <= s.hi + 1e-9
            else:
                assert (s.status, s.value, s.lo) == ("insufficient", None, None)
    assert certified > 20


def test_sign_positive_means_the_sentence_raised_the_reward() -> None:
    for seed in range(15):
        c = case(PLANTED, seed, n=40)
        _, by = scored(c)
        plan = next(u for u in c.units if "prices" in u.text)
        assert (by["delta_value", plan.index].value > 0) == ("add" in plan.text)


def rollout(start: int, reward: float | None, k: int = 0, leaves: int | None = None) -> Rollout:
    status = "ungraded" if reward is None else "graded"
    outcome = Outcome(None if reward is None else "7", reward, status)
    return Rollout(f"i{start}", k, 0, start, start if leaves is None else leaves, outcome, 1)


def units_of(seed: int = 0):
    return sentences(ScriptTokenizer(PLANTED), scripted_trace(PLANTED, seed))[1]


def test_too_few_or_ungraded_rollouts_are_insufficient_never_zero() -> None:
    units = units_of()
    cut = boundary_tokens(units)
    rollouts = [rollout(cut[0], 0.0, k) for k in range(20)]
    rollouts += [rollout(cut[1], None, k) for k in range(20)]
    scores = resample.estimate("t", units, tally(units, rollouts))
    by = {(s.metric, s.unit_index): s for s in scores}
    assert by["value", 0].value == 0.0
    assert by["value", 0].status == "ok"
    for at in [("value", 1), ("delta_value", 0), ("delta_value", 1)]:
        assert by[at].status == "insufficient"
        assert (by[at].value, by[at].lo, by[at].hi) == (None, None, None)
    assert by["value", 1].extra["ungraded"] == 20


def test_a_sentence_inside_a_token_is_not_measured_as_zero() -> None:
    """Two boundaries on one token share all rollouts; their difference says nothing."""
    units = units_of()
    a, b = units[0], units[1]
    squeezed = [a, dataclasses.replace(b, token_start=b.token_end), *units[2:]]
    squeezed[0] = dataclasses.replace(a, token_end=b.token_end)
    cut = boundary_tokens(squeezed)
    rollouts = [rollout(t, 1.0, k) for t in set(cut) for k in range(10)]
    scores = resample.estimate("t", squeezed, tally(squeezed, rollouts))
    by = {(s.metric, s.unit_index): s for s in scores}
    assert by["delta_value", 1].status == "insufficient"
    assert by["delta_value", 1].value is None
    assert by["value", 1].n == by["value", 2].n == 10


@settings(max_examples=60)
@given(st.lists(DRAWN, max_size=40))
def test_counts_add_up_whatever_comes_in(drawn) -> None:
    units = units_of()
    cut = boundary_tokens(units)
    rollouts = []
    for k, (b, more, reward) in enumerate(drawn):
        start = cut[b % len(cut)]
        rollouts.append(rollout(start, reward, k, min(start + more, cut[-1])))
    c = tally(units, rollouts)
    graded = sum(r.outcome.reward is not None for r in rollouts)
    assert c.left_n.sum() == graded
    assert (c.n >= c.left_n).all()
    assert (c.total >= -1e-9).all() and (c.total <= c.n + 1e-9).all()
    known = c.keep[~np.isnan(c.keep)]
    assert ((known >= 0) & (known <= 1)).all()
    for s in resample.estimate("t", units, c):
        if s.status == "ok":
            assert -1 - 1e-9 <= s.lo <= s.value + 1e-9 <= s.hi + 2e-9 <= 1 + 3e-9


def test_plan_prefixes_are_exact_and_responses_end_at_one_length() -> None:
    tokens, units = sentences(ScriptTokenizer(PLANTED), scripted_trace(PLANTED))
    planned = resample.plan(
        tokens, units, model=REF, sampling=Sampling(max_tokens=90), rollouts=5, seed=0
    )
    assert [p.boundary for p in planned] == list(range(len(units) + 1))
    whole = tokens.prompt_ids + tokens.response_ids
    for p in planned:
        assert p.item.prefix_ids == whole[: len(tokens.prompt_ids) + p.start_token]
        # Else a rollout from an early boundary would not be a sample from a later one.
        assert p.start_token + p.item.sampling.max_tokens == 90
    assert len({p.item.key for p in planned}) == len(planned)


def test_plan_asks_only_where_rollouts_are_wanted() -> None:
    tokens, units = sentences(ScriptTokenizer(PLANTED), scripted_trace(PLANTED))
    wanted = [0] * len(units) + [3]
    wanted[2] = 7
    planned = resample.plan(tokens, units, model=REF, sampling=Sampling(), rollouts=wanted, seed=0)
    assert [(p.boundary, p.item.replicates) for p in planned] == [(2, 7), (len(units), 3)]


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 40])
def test_false_discoveries_on_traces_of_filler_stay_below_the_rate(n: int) -> None:
    """Nothing matters in these traces: any sentence called an anchor at FDR 10 % is false."""
    rng = np.random.default_rng(n)
    size, wrong, traces = 12, 0, 250
    units = units_of()[:1] * size
    units = [dataclasses.replace(u, index=i) for i, u in enumerate(units)]
    for _ in range(traces):
        value, keep = rng.uniform(0.1, 0.9), rng.uniform(0, 0.8, size)
        left = np.append(rng.binomial(n, 1 - keep), n)
        total = rng.binomial(left, value)
        reach = left + np.append(rng.binomial(n, keep), 0)
        counts = Tally(
            total=rng.binomial(reach, value).astype(float), n=reach, unanswered=left * 0,
            ungraded=left * 0, left_total=total.astype(float), left_n=left, keep=keep,
            exact=np.ones(size, dtype=bool),
        )  # fmt: skip
        scores = with_fdr(resample.estimate("t", units, counts))
        wrong += any(s.extra.get("p_adjusted", 1.0) <= 0.1 for s in scores)
    # With nothing to find, the false discovery rate is the share of traces with a discovery.
    assert wrong / traces <= 0.12


def tally_of(left: list[int], n: list[int], keep: list[float], *, exact: bool) -> Tally:
    counts, zero = np.array(n), np.zeros(len(n), np.int64)
    return Tally(
        counts / 2.0, counts, zero, zero, np.array(left) / 2.0, np.array(left),
        np.array(keep), np.full(len(keep), exact),
    )  # fmt: skip


THREE = [Unit("sentence", i, 8 * i, 8 * i + 8, 2 * i, 2 * i + 2, f"s{i}") for i in range(3)]


def test_what_no_rollout_replaced_has_no_value() -> None:
    few = tally_of([0, 4, 4, 4], [12, 12, 12, 12], [1.0, 0.5, 0.5], exact=False)
    many = tally_of([0, 4, 4, 4], [90, 90, 90, 90], [1.0, 0.5, 0.5], exact=False)
    for counts, status in ((few, "insufficient"), (many, "certified")):
        found = resample.estimate("t", THREE, counts, certify_below=0.1)
        [s] = [s for s in found if s.metric == "delta_value" and s.unit_index == 0]
        assert (s.status, s.value) == (status, None)
        assert s.extra["reason"] == "no rollout wrote anything else"


def test_a_pooled_certificate_bounds_and_is_no_estimate_without_rollouts() -> None:
    nothing = tally_of([0, 0, 0, 0], [0, 0, 0, 0], [0.95, 0.95, 0.95], exact=True)
    for s in pooled.estimate("t", THREE, nothing, Prior(), delta=0.1):
        if s.metric == "delta_value":
            assert (s.status, s.value) == ("certified", None)
            assert (s.lo, s.hi) == pytest.approx((-0.05, 0.05))
        else:
            assert s.status == "insufficient"
    assert pooled.estimate("t", [], tally_of([0], [0], [], exact=True), Prior(), delta=0.1) == []
