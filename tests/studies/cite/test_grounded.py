"""`grounded` is a claim about all spans together: chance intervals do not make it."""

from __future__ import annotations

import numpy as np
import pytest

from tracelab.core.finding import Score
from tracelab.stats.effects import average_effects
from tracelab.stats.surrogate import fit
from tracelab.studies.cite.attribution import Attribution
from tracelab.studies.cite.grounding import label, some_act

MASKS, SPANS, TIMES = 32, 20, 40


def said(rng: np.random.Generator, acting: int) -> str:
    """The label of one simulated statement that the whole context makes likelier."""
    masks = rng.random((MASKS, SPANS)) < 0.5
    y = 2.0 * masks[:, :acting].sum(axis=1) + rng.normal(0, 0.7, MASKS)
    surrogate = fit(masks, y, rng=rng)
    effects = average_effects(masks, y, surrogate)
    scores = [
        Score.of("t", "span", i, "ablate", "effect", float(effects.value[i]), level=0.95,
                 n=MASKS, interval=(float(effects.lo[i]), float(effects.hi[i])))
        for i in range(SPANS)
    ]  # fmt: skip
    found = Attribution(scores, surrogate.weights, surrogate, MASKS)
    return label(0.0, -5.0, 5, scores, acts=some_act(found))


def test_where_nothing_acts_no_statement_is_grounded_by_chance() -> None:
    """A chance interval above 0, of 20 looked at, grounded a quarter of these."""
    rng = np.random.default_rng(11)
    assert np.mean([said(rng, 0) == "grounded" for _ in range(TIMES)]) <= 0.1


@pytest.mark.parametrize("acting", [1, 3])
def test_where_spans_act_statements_stay_grounded(acting: int) -> None:
    rng = np.random.default_rng(12)
    assert all(said(rng, acting) == "grounded" for _ in range(8))


def test_exact_effects_need_no_test() -> None:
    one = Score.of("t", "span", 0, "ablate", "effect", 2.0, level=0.95, n=4, interval=(2.0, 2.0))
    assert label(0.0, -5.0, 5, [one], acts=False) == "grounded"
