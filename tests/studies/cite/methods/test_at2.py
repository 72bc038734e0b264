"""Head weights: what was planted is learned, in closed form, and nothing is learned from noise."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.separation import auc
from tracelab.core.unit import Unit
from tracelab.stats import pooled_ridge
from tracelab.studies.cite.attribution import SpanScores
from tracelab.studies.cite.methods import at2, attention
from tracelab.studies.cite.methods.at2 import Example

HEADS, N, M = 24, 20, 32


def planted(rng: np.random.Generator, weights: np.ndarray, noise: float = 0.0) -> Example:
    """A target whose outcome is what some heads look at, plus noise."""
    phi = rng.dirichlet(np.full(N, 0.3), size=HEADS)
    masks = rng.random((M, N)) < 0.5
    y = (2.0 * masks - 1) @ (weights @ phi) * 3 + noise * rng.standard_normal(M) - 7
    return Example(phi, masks, y, at2.folds(np.arange(M), rng))


def test_the_heads_that_matter_are_learned_with_either_sign() -> None:
    rng = np.random.default_rng(1)
    weights = np.zeros(HEADS)
    weights[[3, 11]] = 1.0, -1.0
    examples = [planted(rng, weights, noise=0.05) for _ in range(8)]
    found = at2.learn(examples)
    for e, f in zip(examples, found, strict=True):
        truth = 2 * 3 * weights @ e.phi  # what keeping a span adds, for (2 kept - 1)
        mine = f.weights
        assert np.corrcoef(mine, truth)[0, 1] > 0.95
        assert np.polyfit(truth, mine, 1)[0] == pytest.approx(1, abs=0.35)  # in nats, roughly
        equal = np.corrcoef(e.phi.mean(axis=0), truth)[0, 1]
        assert equal < 0.7
        assert f.extra["oof_r"] > 0.9 and f.oof_lds is not None
        assert (f.n, f.failed, f.extra["examples"]) == (M, 0, 8)


def test_with_equal_heads_it_ranks_as_attention_does() -> None:
    rng = np.random.default_rng(2)
    e = planted(rng, np.full(HEADS, 1.0), noise=0.3)
    (f,) = at2.learn([e])
    assert np.corrcoef(f.weights, e.phi.mean(axis=0))[0, 1] > 0.95


def test_noise_predicts_nothing_out_of_fold() -> None:
    rng = np.random.default_rng(3)
    examples = [planted(rng, np.zeros(HEADS), noise=1.0) for _ in range(30)]
    found = at2.learn(examples)
    assert abs(np.mean([f.extra["oof_r"] or 0.0 for f in found])) < 0.1


def test_a_prediction_out_of_fold_has_not_seen_its_outcome(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        pooled_ridge, "PENALTIES", (0.1,)
    )  # the choice among several may look at all
    rng = np.random.default_rng(4)
    e = planted(rng, np.full(HEADS, 1.0), noise=0.5)
    x, y = [e.predictors()], [e.y]
    _, (before,) = pooled_ridge.pooled_ridge(x, y, [e.fold])
    out = e.fold == 0
    changed = e.y.copy()
    changed[out] += 100 * rng.standard_normal(out.sum())
    _, (after,) = pooled_ridge.pooled_ridge(x, [changed], [e.fold])
    assert after[out] == pytest.approx(before[out])
    assert not np.allclose(after[~out], before[~out])


def test_what_teaches_nothing_is_insufficient_with_a_reason() -> None:
    rng = np.random.default_rng(5)
    good = planted(rng, np.full(HEADS, 1.0))
    constant = Example(good.phi, good.masks, np.full(M, -3.0), good.fold)
    few = Example(good.phi, good.masks, np.where(np.arange(M) < 5, good.y, np.nan), good.fold)
    hurt = Example(good.phi, good.masks, np.where(np.arange(M) < 5, np.nan, good.y), good.fold)
    found = at2.learn([good, constant, few, hurt])
    assert [bool(np.isnan(f.weights[0])) for f in found] == [False, True, True, False]
    assert [f.failed for f in found] == [0, 0, 0, 5] and found[3].n == M - 5
    (alone,) = at2.learn([constant])
    units = [Unit("span", i, i, i + 1, i, i + 1, "x") for i in range(N)]
    made = at2.attribution(SpanScores("t", units, "at2", "c", 0.95), alone)
    assert {s.status for s in made.scores} == {"insufficient"}
    assert made.scores[0].extra["reason"] == "no target has enough ablations to learn from"


def test_a_span_without_tokens_is_null_and_the_others_stand() -> None:
    phi = np.full((HEADS, 3), 0.25)
    phi[:, 1] = np.nan
    units = [Unit("span", i, i, i + 1, i, i + 1, "x") for i in range(3)]
    make = SpanScores("t", units, "attention", "a", 0.9)
    made = attention.mean(make, phi, "")
    assert [s.value for s in made.scores] == [0.25, None, 0.25]
    nothing = attention.mean(make, None, "overlong: too long")
    assert {(s.value, s.extra["reason"]) for s in nothing.scores} == {(None, "overlong: too long")}
    assert [s.status for s in made.scores] == ["ok", "insufficient", "ok"]
    assert {(s.metric, s.lo, s.hi, s.evidence, s.n) for s in made.scores} == {
        ("attention", None, None, "scored", 1)
    }
    assert auc(made.weights[[0, 2]], made.weights[[1]]) == 1.0
