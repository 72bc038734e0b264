"""Intervals of sentences hold in worlds that the estimators know nothing of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from tests.stats.worlds import WORLDS, build, sample


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_is_the_identity_that_estimators_rest_on(world: str) -> None:
    truth = WORLDS[world](np.random.default_rng(3))
    p, v, u = truth.keep, truth.value, truth.other
    assert v[:-1] == pytest.approx(p * v[1:] + (1 - p) * u)
    assert ((u >= 0) & (u <= 1)).all() and ((p >= 0) & (p < 1)).all()


@pytest.mark.parametrize("reward", ["binary", "graded", "beta"])
def test_rollouts_are_samples_of_every_boundary_that_they_pass(reward: str) -> None:
    truth = build(np.array([0.2, 0.6, 0.4, 0.9]), np.array([0.7, 0.3, 0.5]), reward)
    seen = sample(np.random.default_rng(0), truth, np.full(4, 8_000))
    assert seen.total / seen.n == pytest.approx(truth.value, abs=0.02)
    assert (seen.left_total / seen.left_n)[:3] == pytest.approx(truth.other, abs=0.02)
    assert 1 - (seen.left_n / seen.n)[:3] == pytest.approx(truth.keep, abs=0.02)
    assert seen.left_n.sum() == 4 * 8_000


def _row(*args: str) -> dict[str, float]:
    shown = CliRunner().invoke(main, ["coverage", "--json", *args])
    assert shown.exit_code == 0, shown.output
    [row] = json.loads(shown.stdout)["rows"]
    return dict(row)


@pytest.mark.parametrize(("world", "n"), [("moderate", "4"), ("drift", "16"), ("bumps", "8")])
def test_intervals_cover_also_the_sentences_that_matter(world: str, n: str) -> None:
    """First-edition intervals covered .75, .57 and .71 of these."""
    row = _row("--world", world, "--rollouts", n, "--keep", "exact", "--runs", "1")
    assert row["coverage"] >= 0.93 and row["coverage_value"] >= 0.93
    assert row["coverage_anchors"] >= 0.88  # of 45 sentences or more: 2 standard errors below .95
    assert row["width"] < 0.95 * row["width_unpooled"]


@pytest.mark.long
@pytest.mark.parametrize("keep", ["exact", "estimated"])
@pytest.mark.parametrize("world", ["long", "mixture"])
def test_they_cover_after_adaptive_stopping(world: str, keep: str) -> None:
    row = _row("--world", world, "--rollouts", "adaptive", "--keep", keep, "--runs", "1")
    assert row["coverage"] >= 0.93 and row["coverage_value"] >= 0.92


def test_a_world_that_is_not_there_is_named() -> None:
    shown = CliRunner().invoke(main, ["coverage", "--world", "flatland"])
    assert shown.exit_code != 0 and "flatland" in shown.output and "drift" in shown.output
