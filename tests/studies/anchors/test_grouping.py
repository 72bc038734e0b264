"""Where rollouts count: against the definition, rollout by rollout."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.studies.anchors.chain import SLOTS, Chain
from tracelab.core.item import Outcome, Rollout
from tracelab.core.unit import Unit
from tracelab.studies.anchors.grouping import answer_codes, boundary_tokens, group, left_unit


def units(lengths: list[int]) -> list[Unit]:
    ends = np.cumsum(lengths)
    return [
        Unit("sentence", i, int(e - n), int(e), int(e - n), int(e), "x" * n)
        for i, (n, e) in enumerate(zip(lengths, ends, strict=True))
    ]


def rollout(start: int, diverge: int, reward: float | None = 1.0) -> Rollout:
    outcome = Outcome("7", reward, "graded" if reward is not None else "ungraded")
    return Rollout("k", 0, 0, start, diverge, outcome, 1)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(0, 18), st.integers(0, 6)), max_size=8),
)
def test_grouping_is_the_interval_query(lengths: list[int], places: list[tuple[int, int]]) -> None:
    u = units(lengths)
    rollouts = [rollout(s, s + more) for s, more in places]
    g = group(u, rollouts)
    cuts = boundary_tokens(u)
    for b, t in enumerate(cuts):
        expected = [k for k, r in enumerate(rollouts) if r.start_token <= t <= r.diverge_token]
        assert g.at(b).tolist() == expected
    for x in u:
        i = x.index
        inside = [
            k for k in g.at(i).tolist() if x.token_start <= rollouts[k].diverge_token < x.token_end
        ]
        assert g.left_in(i).tolist() == inside
        assert [left_unit(rollouts[k], u) for k in inside] == [i] * len(inside)
        # Of those at boundary i, each either left in i or kept it; never both.
        if g.splittable(i):
            both = np.concatenate([g.left_in(i), g.kept(i)])
            assert sorted(both.tolist()) == g.at(i).tolist()
            assert not set(g.left_in(i)) & set(g.at(i + 1))
        else:
            assert not g.left_in(i).size


def test_failed_rollouts_are_counted_and_in_no_group() -> None:
    u = units([2, 2])
    g = group(u, [rollout(0, 3), rollout(2, 3, None), rollout(4, 4, None)])
    assert len(g.rollouts) == 1
    assert g.ungraded.tolist() == [0, 1, 1]


def test_nothing_at_all() -> None:
    g = group([], [])
    assert g.at(0).size == 0
    g = group(units([1]), [])
    assert g.at(0).size == g.left_in(0).size == g.kept(0).size == 0


def test_no_answer_is_a_category_of_its_own() -> None:
    none = dataclasses.replace(rollout(0, 1), outcome=Outcome(None, 0.0, "unanswered"))
    codes, names = answer_codes([rollout(0, 1), none])
    assert names == ["7", "unanswered"]
    assert codes.tolist() == [0, 1]


def shifted(rollouts: list[Rollout], by: int) -> list[Rollout]:
    return [
        dataclasses.replace(r, diverge_token=max(r.diverge_token + by, r.start_token))
        if r.diverge_token < 2 * SLOTS
        else r
        for r in rollouts
    ]


def errors(by: int) -> np.ndarray:
    """z-scores of recycled estimates against the closed form, of many processes and units."""
    out = []
    for seed in range(25):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        g = group(chain.units, shifted(chain.rollouts(rng, 100), by))
        for i in range(SLOTS):
            for who, exact in [
                (g.left_in(i), chain.instead(i, only_different=False)),
                (g.at(i), chain.after(i)),
            ]:
                if who.size >= 20 and exact is not None:
                    v = float(exact[0])
                    sd = np.sqrt(max(v * (1 - v), 1e-9) / who.size)
                    out.append((g.reward[who].mean() - v) / sd)
            n = g.at(i).size
            p = chain.keep(i)
            if 0.02 < p < 0.98:
                out.append((g.kept(i).size / n - p) / np.sqrt(p * (1 - p) / n))
    return np.array(out)


def test_recycled_groups_are_unbiased_samples() -> None:
    z = errors(0)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert 0.8 < np.mean(z**2) < 1.2


def test_a_diverge_token_off_by_one_would_show() -> None:
    for by in (-1, 1):
        assert np.mean(errors(by) ** 2) > 4
