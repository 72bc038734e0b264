"""Many sentences, many tests: what is called significant is corrected over the trace."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from tests.studies.anchors.chain import Chain
from tracelab.studies.anchors import counterfactual


@pytest.mark.parametrize("metric", ["tv", "js"])
def test_p_adjusted_is_benjamini_hochbergs_over_the_trace(metric: str) -> None:
    rng = np.random.default_rng(2)
    chain = Chain.random(rng)
    found = counterfactual.estimate(
        "t", chain.units, chain.rollouts(rng, 40), similarity_name="planted", rng=rng, threshold=0.5
    )
    tested = [s.extra for s in found if s.metric == metric and "p" in s.extra]
    expected = false_discovery_control([e["p"] for e in tested])
    assert [e["p_adjusted"] for e in tested] == pytest.approx(expected.tolist())
    assert any(e["p_adjusted"] > 1.05 * e["p"] for e in tested)
    assert all("p_adjusted" not in s.extra for s in found if "p" not in s.extra)
