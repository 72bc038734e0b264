"""What rollouts wrote, and links from it, where the model may leave a sentence out."""

from __future__ import annotations

import numpy as np

from tests.helpers import sentences
from tests.studies.context import world
from tracelab.core.item import Observation, Outcome, Rollout, diverge_token
from tracelab.core.trace import Trace, Turn
from tracelab.engines.scripted import Line, Script, ScriptTokenizer
from tracelab.engines.similarity import load
from tracelab.studies.anchors import links
from tracelab.studies.anchors.annotate import Annotator, Found
from tracelab.studies.anchors.case import Reasoning
from tracelab.studies.anchors.cohort import Cohort
from tracelab.studies.anchors.grouping import boundary_tokens
from tracelab.studies.anchors.options import AnchorsOptions

FILLER, PLAN, END = " This is a small sum.", " I will add the two prices.", " So it is \\boxed{7}."
STOP = 256


def test_a_sentence_that_may_be_left_out_brings_nothing_about() -> None:
    """The plan is written after the filler and without it: the filler does not lead to it."""
    script = Script(
        (
            {"": (Line(FILLER, 0.5, "go"), Line(PLAN, 0.5, "planned"))},
            {"go": (Line(PLAN, 1.0, "planned"),), "planned": (Line(END, 1.0, "7"),)},
            {"planned": (Line(END, 1.0, "7"),), "7": (Line(" Done.", 1.0, "7"),)},
        )
    )
    tokenizer = ScriptTokenizer(script)
    turns = (Turn("user", "q"), Turn("assistant", FILLER + PLAN + END))
    tokens, units = sentences(tokenizer, Trace(turns=turns, name="t", reference="7"))
    case = Reasoning(tokens, units, "reasoning-v1")
    rng = np.random.default_rng(0)
    batch: list[Found] = []
    for b, start in enumerate(boundary_tokens(units)):
        for k in range(30):
            ids = list(tokens.response_ids[:start])
            while True:
                chances = script.next_token(ids)
                token = int(rng.choice(list(chances), p=list(chances.values())))
                if token == STOP:
                    break
                ids.append(token)
            new, key = tuple(ids[start:]), f"i{b}"
            leaves = diverge_token(start, new, tokens.response_ids)
            rollout = Rollout(key, k, b, start, leaves, Outcome("7", 1.0, "graded"), len(new))
            batch.append((rollout, Observation(key, k, new, tokenizer.decode(new))))
    ctx = world(AnchorsOptions(), script=script).ctx
    cohort = Cohort([case], ctx, comparing=load("lexical"), echoes=True)
    rollouts = [rollout for rollout, _ in Annotator(case, cohort).annotate(batch)]
    found = {
        (x.from_index, x.to_index): x
        for x in links.estimate("t", units, rollouts, similarity_name="lexical")
    }
    link = found[0, 1]
    assert link.status == "ok" and link.extra["n_replaced"] >= 8
    assert link.extra["rate_kept"] == link.extra["rate_replaced"] == 1.0
    assert link.value == 0.0
