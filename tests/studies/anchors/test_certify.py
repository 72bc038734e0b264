"""How likely each sentence was to be written exactly: of its own tokens, and of no others."""

from __future__ import annotations

import numpy as np
import pytest

from tests.helpers import scripted_trace, sentences
from tests.studies.anchors.anchors import prob
from tracelab.core.item import ModelRef
from tracelab.core.unit import Unit
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.studies.anchors import certify

MODEL = ModelRef("m", "1", "float32")


def units(*cuts: int) -> list[Unit]:
    return [
        Unit("sentence", i, a, b, a, b, "s")
        for i, (a, b) in enumerate(zip(cuts, cuts[1:], strict=False))
    ]


def test_each_sentence_has_the_product_of_its_own_tokens() -> None:
    """Every token's probability is another one, so a shift by one token gives other products."""
    p = [0.9, 0.5, 0.8, 0.25, 0.7, 0.6]
    found = certify.keep_probabilities(units(0, 2, 3, 6), np.log(p))
    assert found == pytest.approx([0.9 * 0.5, 0.8, 0.25 * 0.7 * 0.6])


def test_it_is_a_probability_whatever_rounding_did() -> None:
    assert certify.keep_probabilities(units(0, 1, 2), [1e-7, -800.0]) == [1.0, 0.0]
    inside_a_token = units(0, 1, 1, 2)
    assert certify.keep_probabilities(inside_a_token, np.log([0.5, 0.25]))[1] == 1.0


def test_the_pass_that_is_asked_gives_the_closed_form() -> None:
    """Up to the end of the last sentence, and no token of what follows."""
    script = Script.random(np.random.default_rng(3), slots=5)
    tokens, cut = sentences(ScriptTokenizer(script), scripted_trace(script, 3))
    item = certify.plan(tokens, cut[:-1], model=MODEL)
    target = item.target_ids
    assert target == tokens.response_ids[: cut[-2].token_end]
    row = [np.log(script.next_token(target[:t])[target[t]]) for t in range(len(target))]
    exact = [prob(script, target, u.token_start, u.token_end) for u in cut[:-1]]
    assert certify.keep_probabilities(cut[:-1], row) == pytest.approx(exact)
    assert len({round(p, 6) for p in exact}) > 1
