"""Counterfactual importance and answer shifts against the closed form of a small process."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.anchors.chain import SLOTS, Chain
from tracelab.core.finding import Score
from tracelab.core.item import Outcome, Rollout
from tracelab.core.unit import Unit
from tracelab.stats.divergence import entropy, js, tv
from tracelab.studies.anchors import counterfactual, distribution
from tracelab.studies.anchors.counterfactual import median_threshold


def scores(chain: Chain, rollouts: list[Rollout], **more: object) -> dict[tuple[str, int], Score]:
    found = counterfactual.estimate(
        "t", chain.units, rollouts, similarity_name="planted",
        rng=np.random.default_rng(0), **{"threshold": 0.5, **more},  # type: ignore[arg-type]
    )  # fmt: skip
    return {(s.metric, s.unit_index): s for s in found}


def shifts(chain: Chain, rollouts: list[Rollout], **more: object) -> dict[tuple[str, int], Score]:
    found = distribution.estimate(
        "t", chain.units, rollouts, rng=np.random.default_rng(0), **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return {(s.metric, s.unit_index): s for s in found}


@pytest.mark.slow
def test_estimates_converge_to_the_closed_form() -> None:
    for seed in range(2):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        rollouts = chain.rollouts(rng, 4000)
        by, by_shift = scores(chain, rollouts), shifts(chain, rollouts)
        for i in range(SLOTS):
            after, other = chain.after(i + 1), chain.instead(i, only_different=True)
            share = by["different_fraction", i]
            assert share.value == pytest.approx(chain.different(i), abs=0.03)
            s = by["delta_value", i]
            if other is not None and s.extra["n_different"] > 500:
                room = 5 * np.sqrt(0.5 / s.extra["n_different"])
                assert s.value == pytest.approx(after[0] - other[0], abs=room)
                assert by["tv", i].value == pytest.approx(float(tv(after, other)), abs=room)
                assert by["js", i].value == pytest.approx(float(js(after, other)), abs=room)
            before = chain.after(i)
            if by_shift["tv", i].extra["n_replaced"] > 500:
                assert by_shift["tv", i].value == pytest.approx(float(tv(before, after)), abs=0.06)
                assert by_shift["js", i].value == pytest.approx(float(js(before, after)), abs=0.06)
            p = chain.p[i, chain.state(i)]
            assert by["entropy_before", i].value == pytest.approx(
                float(-(p * np.log(p)).sum()), abs=0.05
            )


def test_the_sign_is_that_of_what_the_sentence_did() -> None:
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        by = scores(chain, chain.rollouts(rng, 100))
        for i in range(SLOTS):
            other = chain.instead(i, only_different=True)
            if other is None or by["delta_value", i].status != "ok":
                continue
            gap = chain.after(i + 1)[0] - other[0]
            if abs(gap) > 0.3 and by["delta_value", i].extra["n_different"] > 40:
                s = by["delta_value", i]
                assert np.sign(s.value) == np.sign(gap)
                assert np.sign(s.extra["log_odds"][0]) == np.sign(gap)
                found += 1
    assert found > 10


@pytest.mark.slow
def test_intervals_cover_the_closed_form() -> None:
    """Nominal 95 % with 10 rollouts a boundary, recycled.

    Measured over 400 traces: share 0.947, delta 0.965, tv 0.978, js 0.980, shifts 0.98 to 0.99.
    """
    hits: dict[str, list[bool]] = {}
    for seed in range(80):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        rollouts = chain.rollouts(rng, 10)
        by = scores(chain, rollouts)
        keep = np.array([chain.keep(i) for i in range(SLOTS)])
        exact_p, own_p = shifts(chain, rollouts, p_keep=keep), shifts(chain, rollouts)
        for i in range(SLOTS):
            after, other = chain.after(i + 1), chain.instead(i, only_different=True)
            before = chain.after(i)
            cases = [
                (by["different_fraction", i], "share", chain.different(i)),
                (exact_p["tv", i], "shift tv, p known", float(tv(before, after))),
                (exact_p["js", i], "shift js, p known", float(js(before, after))),
                (own_p["tv", i], "shift tv", float(tv(before, after))),
                (own_p["js", i], "shift js", float(js(before, after))),
            ]
            if other is not None:
                cases += [
                    (by["delta_value", i], "delta", float(after[0] - other[0])),
                    (by["tv", i], "tv", float(tv(after, other))),
                    (by["js", i], "js", float(js(after, other))),
                ]
            for s, name, exact in cases:
                if s.status == "ok":
                    hits.setdefault(name, []).append(s.lo - 1e-9 <= exact <= s.hi + 1e-9)
    assert {len(h) > 200 for h in hits.values()} == {True}
    covered = {name: float(np.mean(h)) for name, h in hits.items()}
    assert 0.93 < covered["delta"] < 0.985, covered
    assert 0.93 < covered["share"] < 0.985, covered
    assert min(covered.values()) > 0.93, covered


def test_a_shift_is_not_exaggerated_by_shared_rollouts() -> None:
    """All rollouts from boundary 0, each counted at every boundary it passes, as often as it is."""
    rng = np.random.default_rng(5)
    chain = Chain.random(rng)
    rollouts = chain.rollouts(rng, [3000, *[0] * SLOTS])
    by = shifts(chain, rollouts)
    s = by["tv", 0]
    assert s.value == pytest.approx(float(tv(chain.after(0), chain.after(1))), abs=0.05)
    assert s.n == 3000


def test_too_few_is_insufficient_never_0() -> None:
    rng = np.random.default_rng(1)
    chain = Chain.random(rng)
    nothing = scores(chain, [])
    assert len(nothing) == 6 * SLOTS
    for s in [*nothing.values(), *shifts(chain, []).values()]:
        assert (s.status, s.value, s.lo, s.hi, s.n) == ("insufficient", None, None, None, 0)
        json.dumps(dict(s.extra), allow_nan=False)
    # Rollouts that were never compared with the trace: no group, but still counted.
    bare = [
        dataclasses.replace(r, own_sentence=None, similarity=None) for r in chain.rollouts(rng, 20)
    ]
    by = scores(chain, bare)
    for i in range(SLOTS):
        assert by["delta_value", i].status == by["tv", i].status == "insufficient"
    assert sum(by["delta_value", i].extra["n_unplaced"] for i in range(SLOTS)) > 20
    failed = [
        dataclasses.replace(r, outcome=Outcome(None, None, "ungraded"))
        for r in chain.rollouts(rng, 20)
    ]
    assert {s.status for s in scores(chain, failed).values()} == {"insufficient"}


def test_a_sentence_inside_a_token_is_not_measured() -> None:
    rng = np.random.default_rng(1)
    chain = Chain.random(rng)
    units = chain.units
    units[2] = dataclasses.replace(units[2], token_start=units[2].token_end)
    units[1] = dataclasses.replace(units[1], token_end=units[2].token_end)
    found = counterfactual.estimate(
        "t", units, chain.rollouts(rng, 30), similarity_name="x", rng=rng
    )
    inside = [s for s in found if s.unit_index == 2]
    assert {s.status for s in inside} == {"insufficient"}
    assert "inside a token" in inside[0].extra["reason"]


def test_extra_says_what_was_done() -> None:
    rng = np.random.default_rng(2)
    chain = Chain.random(rng)
    rollouts = chain.rollouts(rng, 40)
    by = scores(chain, rollouts, threshold=None)
    extra = by["tv", 0].extra
    assert extra["similarity"] == "planted"
    assert 0.1 < extra["threshold"] < 1
    for key in ("n_kept", "n_different", "n_similar"):
        assert isinstance(extra[key], int)
    for s in by.values():
        json.dumps(dict(s.extra), allow_nan=False)
    tested = [s.extra for s in by.values() if s.metric == "tv" and s.status == "ok"]
    assert all(e["p"] <= e["p_adjusted"] <= 1 for e in tested)


def test_overdetermined_is_1_minus_distinct_over_total() -> None:
    """By hand: five kept the sentence, three wrote another, one a third: 1 - 3/9."""
    rng = np.random.default_rng(0)
    chain = Chain.random(rng)
    good = Outcome("0", 1.0, "graded")
    wrote = [None] * 5 + [" says X."] * 3 + ["says  X. "] * 0 + [" says Y."]
    rollouts = [
        Rollout("k", k, 0, 0, 0 if w else 2, good, 9, own_sentence=w, similarity=0.2)
        for k, w in enumerate(wrote)
    ]
    by = scores(chain, rollouts)
    s = by["overdetermined", 0]
    assert s.value == pytest.approx(1 - 3 / 9)
    assert (s.lo, s.hi, s.n) == (None, None, 9)
    assert s.extra["collision"] == pytest.approx((5 * 4 + 3 * 2) / (9 * 8))
    assert by["entropy_before", 0].value == pytest.approx(entropy([5, 3, 1]))
    assert by["different_fraction", 0].value == pytest.approx(4 / 9)


@given(st.lists(st.sampled_from([0.1, 0.3, 0.6, 0.9, 1.0]), min_size=1, max_size=30))
def test_the_default_threshold_splits_as_evenly_as_it_can(s: list[float]) -> None:
    cut = median_threshold(s)
    a = np.array(s)
    assert cut is not None
    best = min(
        (abs((a < c).mean() - 0.5) for c in [*a, np.nextafter(a.max(), 2)] if c < 1),
        default=0.5,
    )
    assert abs((a < cut).mean() - 0.5) <= best + 1e-9
    assert not (a < cut)[a == 1.0].any()  # a copy is never different


def test_the_default_threshold_is_the_median_of_distinct_cosines() -> None:
    assert median_threshold([0.1, 0.9, 0.4, np.nan]) == 0.4
    assert median_threshold([0.1, 0.2, 0.4, 0.9]) == pytest.approx(0.3)
    assert median_threshold([np.nan]) is None
    assert median_threshold([]) is None


@pytest.mark.slow
@pytest.mark.parametrize(("at", "behind"), [(100, 20), (100, 100), (40, 400)])
def test_where_rollouts_were_spent_does_not_move_the_value(at: int, behind: int) -> None:
    """One sentence: written exactly .1 (then .9 succeed), alike .6 (.2), differently .3 (.2)."""
    unit = Unit("sentence", 0, 0, 4, 0, 4, "s")
    rng, found = np.random.default_rng(at), []

    def rollout(k: int, start: int, leaves: int, mean: float, cosine: float | None) -> Rollout:
        reward = float(rng.random() < mean)
        return Rollout(
            f"b{start}", k, 0, start, leaves, Outcome(str(reward), reward, "graded"), 8,
            None if cosine is None else f"o{cosine}", cosine, None,
        )  # fmt: skip

    for _ in range(60):
        kinds = rng.choice(3, at, p=[0.1, 0.6, 0.3])
        made = [
            rollout(k, 0, 4, 0.9, None) if kind == 0
            else rollout(k, 0, 0, 0.2, 0.9 if kind == 1 else 0.1)
            for k, kind in enumerate(kinds)
        ] + [rollout(k, 4, 4, 0.9, None) for k in range(behind)]  # fmt: skip
        by = counterfactual.estimate(
            "t", [unit], made, similarity_name="planted", rng=rng, threshold=0.5
        )
        [s] = [s for s in by if s.metric == "delta_value"]
        found.append((s.value, s.lo <= 0.1 <= s.hi))
    values, inside = zip(*found, strict=True)
    assert np.mean(values) == pytest.approx(0.1, abs=0.04)
    assert np.mean(inside) >= 0.88
