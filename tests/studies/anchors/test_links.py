"""Links against the closed form of a small process."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.stats import fisher_exact

from tests.studies.anchors.chain import SLOTS, Chain
from tracelab.core.finding import Link
from tracelab.core.item import Outcome, Rollout
from tracelab.studies.anchors.links import estimate


def links(chain: Chain, rollouts: list[Rollout], **more: float) -> dict[tuple[int, int], Link]:
    found = estimate("t", chain.units, rollouts, similarity_name="planted", **more)  # type: ignore[arg-type]
    return {(x.from_index, x.to_index): x for x in found}


def test_links_converge_to_the_closed_form_with_their_sign() -> None:
    signs = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        by = links(chain, chain.rollouts(rng, 800))
        assert len(by) == SLOTS * (SLOTS - 1) // 2
        for (i, j), x in by.items():
            if x.status == "ok" and min(x.extra["n_replaced"], x.extra["n_kept"]) > 200:
                exact = chain.link(i, j)
                few = min(x.extra["n_replaced"], x.extra["n_kept"])
                assert x.value == pytest.approx(exact, abs=5 * np.sqrt(0.5 / few))
                if abs(exact) > 0.2:
                    assert np.sign(x.value) == np.sign(exact)
                    assert x.extra["p_adjusted"] < 0.01
                    signs += 1
    assert signs >= 3


def test_intervals_cover_and_false_links_are_rare() -> None:
    """Nominal 95 % with 12 rollouts a boundary; FDR at 10 % of pairs without any link."""
    hits, false = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        chain = Chain.random(rng)
        by = links(chain, chain.rollouts(rng, 12))
        for (i, j), x in by.items():
            if x.status == "ok":
                hits.append(x.lo - 1e-9 <= chain.link(i, j) <= x.hi + 1e-9)
        # The same process with sentences that do not depend on the state has no links.
        idle = dataclasses.replace(chain, p=np.repeat(chain.p[:, :1], 3, axis=1))
        none = links(idle, idle.rollouts(rng, 12))
        called = [x for x in none.values() if x.status == "ok" and x.extra["p_adjusted"] <= 0.1]
        false.append(bool(called))
    assert len(hits) > 500
    assert 0.93 < np.mean(hits) < 0.99
    assert np.mean(false) <= 0.12


def test_a_diverge_token_off_by_one_would_show() -> None:
    """Moved by one token, rollouts that replaced a sentence count as having kept it, or the last.

    Nearly always so in a link to the next sentence: what stands there would be "kept".
    """
    worst = {}
    for by in (0, -1, 1):
        z = []
        for seed in range(12):
            rng = np.random.default_rng(seed)
            chain = Chain.random(rng)
            moved = [
                dataclasses.replace(r, diverge_token=max(r.diverge_token + by, r.start_token))
                if r.diverge_token < 2 * SLOTS
                else r
                for r in chain.rollouts(rng, 150)
            ]
            for (i, j), x in links(chain, moved).items():
                if x.status == "ok" and min(x.extra["n_replaced"], x.extra["n_kept"]) > 20:
                    half = (x.hi - x.lo) / 2 / 1.96
                    z.append((x.value - chain.link(i, j)) / half)
        worst[by] = float(np.mean(np.square(z)))
    assert worst[0] < 1.3
    assert min(worst[-1], worst[1]) > 2


def test_bits_by_hand() -> None:
    """Three units. Kept 0: follows through 1, leaves in 2. Replaced 0: echoes 2 only."""
    chain = dataclasses.replace(
        Chain.random(np.random.default_rng(0)), trace=np.zeros(SLOTS, dtype=int)
    )
    good = Outcome("0", 1.0, "graded")
    kept = [
        Rollout("k", k, 0, 0, 4, good, 9, own_sentence="x", similarity=s, echoes=0)
        for k, s in enumerate([0.9, 0.9, 0.1, None])
    ]
    left = [
        Rollout("l", k, 0, 0, 0, good, 9, own_sentence="x", similarity=0.9, echoes=e)
        for k, e in enumerate([0b100, 0b100, 0b100, 0b100, 0b10])
    ]
    unknown = [Rollout("u", 0, 0, 0, 0, good, 9)]
    x = links(chain, kept + left + unknown)
    assert x[0, 1].value == pytest.approx(1 - 1 / 5)
    assert x[0, 2].value == pytest.approx(2 / 4 - 4 / 5)
    assert x[0, 2].extra["rate_kept"] == 0.5
    assert (x[0, 1].extra["n_kept"], x[0, 1].extra["n_replaced"]) == (4, 5)
    assert x[0, 1].extra["n_unknown"] == 1
    assert x[0, 1].extra["p"] == pytest.approx(fisher_exact([[4, 0], [1, 4]]).pvalue)
    # A bit for a unit before the one replaced says nothing, nor does one past the last unit.
    odd = [dataclasses.replace(r, echoes=(r.echoes or 0) | 1 | (1 << 500)) for r in kept + left]
    assert links(chain, odd + unknown)[0, 2].value == x[0, 2].value


def test_too_few_is_insufficient_never_0() -> None:
    chain = Chain.random(np.random.default_rng(0))
    for rollouts in ([], [dataclasses.replace(r, echoes=None) for r in chain.rollouts(
        np.random.default_rng(1), 20)]):  # fmt: skip
        for x in links(chain, rollouts).values():
            assert (x.status, x.value, x.lo, x.hi) == ("insufficient", None, None, None)
    assert estimate("t", [], [], similarity_name="x") == []
    assert estimate("t", chain.units[:1], [], similarity_name="x") == []
