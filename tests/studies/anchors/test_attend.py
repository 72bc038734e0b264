"""Receiver heads against slow definitions and planted heads."""

from __future__ import annotations

import numpy as np
import pytest

from tracelab.core.look import AttentionMaps
from tracelab.core.unit import Unit
from tracelab.studies.anchors.attend import estimate, head_kurtosis, links, receiver_heads


def units(n: int, empty: tuple[int, ...] = ()) -> list[Unit]:
    at, made = 0, []
    for i in range(n):
        end = at if i in empty else at + 3
        made.append(Unit("sentence", i, 4 * i, 4 * i + 4, at, end, "abc."))
        at = end
    return made


def maps(vertical, **more) -> AttentionMaps:
    return AttentionMaps(np.asarray(vertical, dtype=float), **more)


def test_kurtosis_is_fishers_and_biased() -> None:
    """A 0/1 variable with mean p has excess kurtosis (1 - 6pq) / pq."""
    one_of_five, half = [1, 0, 0, 0, 0], [1, 0, 1, 0, np.nan]
    k = head_kurtosis([maps([[one_of_five], [half]])])
    # Units without a score in some head count in none; here the last one.
    p = np.array([1 / 4, 1 / 2])
    np.testing.assert_allclose(k[:, 0], (1 - 6 * p * (1 - p)) / (p * (1 - p)), atol=1e-12)


def test_heads_are_averaged_over_the_traces_that_define_them() -> None:
    spiky, flat, two = [1, 0, 0, 0, 0], [0.2] * 5, [1, 0, 1, 0]
    k = head_kurtosis(
        [maps([[spiky, flat, flat]]), maps([[two, two, flat[:4]]]),
         AttentionMaps(error="overlong: no")]
    )  # fmt: skip
    p = 1 / 5
    first = (1 - 6 * p * (1 - p)) / (p * (1 - p))
    np.testing.assert_allclose(k[0], [(first - 2) / 2, -2, np.nan])


def test_kurtosis_needs_traces_of_one_model() -> None:
    with pytest.raises(ValueError, match="no trace"):
        head_kurtosis([AttentionMaps(error="engine: no")])
    with pytest.raises(ValueError, match="different numbers"):
        head_kurtosis([maps(np.zeros((1, 2, 5))), maps(np.zeros((2, 2, 5)))])


def test_planted_receivers_are_found_and_their_sentence_scores_highest() -> None:
    rng = np.random.default_rng(0)
    planted = {(1, 2), (3, 0)}
    traces = []
    for _ in range(8):
        v = rng.normal(0.05, 0.01, (4, 6, 30))
        for layer, head in planted:
            v[layer, head, 7] += 0.3
        v[..., -4:] = np.nan
        traces.append(maps(v))
    heads = receiver_heads(traces, 2)
    assert set(heads) == planted
    assert set(receiver_heads(traces, 2 / 24)) == planted
    assert len(receiver_heads(traces, 1000)) == 24
    scores = estimate("t", traces[0], units(30), heads)
    assert max((s.value, s.unit_index) for s in scores if s.value is not None)[1] == 7
    assert [s.status for s in scores] == ["ok"] * 26 + ["insufficient"] * 4
    assert [s.n for s in scores[-6:]] == [2, 1, 0, 0, 0, 0]
    direct = np.mean([traces[0].vertical[h][7] for h in planted])
    assert scores[7].value == pytest.approx(direct)
    assert {(s.method, s.metric, s.evidence, s.lo, s.hi) for s in scores} == {
        ("attend", "receiver_attention", "scored", None, None)
    }


def test_without_receivers_nothing_is_scored() -> None:
    short = maps(np.full((2, 2, 4), np.nan))
    assert receiver_heads([short]) == ()
    scores = estimate("t", short, units(4), ())
    assert {(s.status, s.value) for s in scores} == {("insufficient", None)}


def test_a_failed_trace_fails_its_scores() -> None:
    failed = AttentionMaps(error="overlong: too long")
    scores = estimate("t", failed, units(3), [(0, 0)])
    assert {(s.status, s.value, s.extra["reason"]) for s in scores} == {
        ("failed", None, "overlong: too long")
    }
    assert [(x.status, x.value) for x in links("t", failed, units(3))] == [("failed", None)] * 3


def test_links_go_from_the_earlier_to_the_later_unit() -> None:
    a = np.tril(np.arange(16.0).reshape(1, 4, 4))
    a[0, 2] = a[0, :, 2] = np.nan
    seen = maps(np.zeros((2, 5, 4)), mean=a[0])
    every = links("t", seen, units(4, empty=(2,)))
    assert [(x.from_index, x.to_index) for x in every] == [
        (0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3)
    ]  # fmt: skip
    assert [x.value for x in every] == [4, None, None, 12, 13, None]
    assert {x.status for x in every if x.value is None} == {"insufficient"}
    assert (every[0].n, every[0].status, every[0].evidence) == (10, "ok", "scored")
