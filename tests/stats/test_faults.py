"""What an audit is sure of, in worlds that it knows nothing of."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import main
from tests.stats.faults import FAULTS, rerun


@pytest.mark.parametrize("world", FAULTS)
def test_a_world_is_the_identity_that_audits_rest_on(world: str) -> None:
    of = FAULTS[world](np.random.default_rng(3))
    v, p = of.value, of.keep
    assert v[:-1] == pytest.approx(p * v[1:] + (1 - p) * of.other)
    assert ((of.other >= 0) & (of.other <= 1)).all()
    falls = v[:-1] - v[1:]
    assert of.truth is None or falls[of.truth] == falls.max() > 0.15
    drawn = rerun(np.random.default_rng(0), of, 1, 6000)
    assert np.mean([score for _, _, score in drawn]) == pytest.approx(v[1], abs=0.03)


def _row(world: str, runs: int) -> dict[str, float]:
    args = ["faults", "--json", "--world", world, "--runs", str(runs), "--keep", "exact"]
    shown = CliRunner().invoke(main, args)
    assert shown.exit_code == 0, shown.output
    [row] = json.loads(shown.stdout)["rows"]
    return dict(row)


def test_a_single_fault_is_found() -> None:
    row = _row("single", 12)
    assert row["localized"] >= 0.7 and row["right"] >= 0.9 and row["set_holds"] >= 0.88


@pytest.mark.parametrize("world", ["coin", "hard"])
def test_nothing_is_localized_where_no_step_is_to_be_named(world: str) -> None:
    assert _row(world, 12)["localized"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("world", ["retries", "several-small", "noisy-end"])
def test_nothing_is_localized_where_many_steps_cost_a_little(world: str) -> None:
    assert _row(world, 60)["localized"] <= 0.07


@pytest.mark.slow
def test_of_two_near_falls_one_is_named_only_where_it_is_the_larger() -> None:
    """It was right .81 to .86 of the time."""
    row = _row("near", 150)
    assert row["right"] >= 0.9 and row["set_holds"] >= 0.88


def test_a_world_that_is_not_there_is_named() -> None:
    shown = CliRunner().invoke(main, ["faults", "--world", "flatland"])
    assert shown.exit_code != 0 and "flatland" in shown.output and "coin" in shown.output
