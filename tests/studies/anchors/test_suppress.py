"""Aggregating suppressed passes: windows, centring, and what may not be counted."""

from __future__ import annotations

import numpy as np
import pytest

from tests.studies.anchors.test_attend import units
from tracelab.core.look import Suppressed
from tracelab.core.trace import TokenizedTrace, Trace, Turn
from tracelab.studies.anchors.suppress import answer_range, estimate, links


def seen(n_units: int, tokens: int, seed: int = 0) -> Suppressed:
    """Random effects with the structure of real ones: nothing up to the first token after."""
    rng = np.random.default_rng(seed)
    kl = rng.gamma(0.5, 1, (n_units, tokens)).astype(np.float32)
    drop = rng.normal(0, 1, (n_units, tokens)).astype(np.float32)
    for i, u in enumerate(units(n_units)):
        kl[i, : u.token_end + 1] = drop[i, : u.token_end + 1] = np.nan
    return Suppressed(tuple(range(n_units)), kl, drop)


def plain(s: Suppressed, of: list) -> dict:
    return {
        (x.from_index, x.to_index): x for x in links("t", s, of) if x.metric == "suppression_kl"
    }


def centred(s: Suppressed, of: list) -> dict:
    return {
        (x.from_index, x.to_index): x
        for x in links("t", s, of)
        if x.metric == "suppression_kl_centred"
    }


def test_links_average_a_targets_own_tokens() -> None:
    s = seen(5, 20)
    found = plain(s, units(5))
    assert set(found) == {(i, j) for j in range(5) for i in range(j)}
    for (i, j), link in found.items():
        # The first token right after the source cannot change and is not counted.
        lo, hi = 3 * j + (j == i + 1), 3 * j + 3
        assert link.n == hi - lo
        assert link.value == pytest.approx(float(np.mean(s.kl[i, lo:hi])), rel=1e-6)


def test_centred_links_sum_to_nothing_over_a_targets_sources() -> None:
    s = seen(7, 25)
    values, found = plain(s, units(7)), centred(s, units(7))
    assert (found[0, 1].value, found[0, 1].status) == (None, "insufficient")
    for target in range(2, 7):
        mine = [found[i, target].value for i in range(target)]
        assert sum(mine) == pytest.approx(0, abs=1e-12)
        kl = [values[i, target].value for i in range(target)]
        assert mine == pytest.approx([v - np.mean(kl) for v in kl])


def test_a_one_token_unit_right_after_the_source_has_no_link() -> None:
    three = units(3)
    three[1] = type(three[1])("sentence", 1, 4, 8, 3, 4, "abc.")
    three[2] = type(three[2])("sentence", 2, 8, 12, 4, 9, "abc.")
    kl = np.full((3, 9), 0.5, dtype=np.float32)
    kl[0, :4] = kl[1, :5] = kl[2] = np.nan
    found = plain(Suppressed((0, 1, 2), kl, kl), three)
    assert {k: (x.n, x.value) for k, x in found.items()} == {
        (0, 1): (0, None), (0, 2): (5, 0.5), (1, 2): (4, 0.5)
    }  # fmt: skip
    assert found[0, 1].status == "insufficient"


def test_scores_of_the_answer() -> None:
    s = seen(4, 16)
    by = {(x.unit_index, x.metric): x for x in estimate("t", s, units(4), (12, 16))}
    assert len(by) == 12
    for i in range(4):
        lo = 13 if i == 3 else 12
        kl, drop, later = (by[i, m] for m in ("answer_kl", "answer_logprob_drop", "later_kl"))
        assert kl.value == pytest.approx(float(np.mean(s.kl[i, lo:])), rel=1e-6)
        assert drop.value == pytest.approx(float(np.sum(s.drop[i, lo:])), rel=1e-6)
        assert later.value == pytest.approx(float(np.nansum(s.kl[i])), rel=1e-6)
        assert kl.n == drop.n == 16 - lo
        assert later.n == 16 - 3 * i - 4
        assert (kl.lo, kl.hi, kl.evidence, kl.method) == (None, None, "scored", "suppress")


def test_what_cannot_change_is_missing_not_zero() -> None:
    s = seen(4, 12)
    by = {(x.unit_index, x.metric): x for x in estimate("t", s, units(4), (12, 12))}
    for i in range(4):
        assert (by[i, "answer_kl"].value, by[i, "answer_kl"].status) == (None, "insufficient")
        assert by[i, "answer_logprob_drop"].value is None
    assert by[2, "later_kl"].status == "ok"
    assert by[3, "later_kl"].status == "insufficient"


def test_a_unit_that_was_not_hidden_is_missing() -> None:
    full = seen(4, 16)
    s = Suppressed((0, 3), full.kl[[0, 3]], full.drop[[0, 3]])
    found = estimate("t", s, units(4), (12, 16))
    assert {x.unit_index for x in found if x.status == "ok"} == {0, 3}
    assert {k[0] for k, x in plain(s, units(4)).items() if x.status == "ok"} == {0}
    assert {x.value for x in centred(s, units(4)).values()} == {None}


def test_a_failed_trace_fails_its_scores() -> None:
    s = Suppressed(error="overlong: too long")
    found = estimate("t", s, units(2), (6, 9))
    assert {(x.status, x.value, x.extra["reason"]) for x in found} == {
        ("failed", None, "overlong: too long")
    }
    assert [(x.status, x.value) for x in links("t", s, units(2))] == [("failed", None)] * 2


def test_the_answer_is_what_follows_the_last_unit() -> None:
    trace = Trace((Turn("user", "q"), Turn("assistant", "x" * 20)), "t")
    tokens = TokenizedTrace(trace, (1,), tuple(range(20)), tuple(range(20)))
    assert answer_range(tokens, units(4)) == (12, 20)
    assert answer_range(tokens, []) == (0, 20)
