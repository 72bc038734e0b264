"""Effects on sampled answers: against closed forms, with both noises, and what has no answer."""

from __future__ import annotations

import random

import numpy as np
import pytest
from pydantic import ValidationError

from tests.studies.cite.answers.oracle import (
    FACTS,
    Rule,
    answers,
    asked,
    boxed,
    effects,
    exact,
    needs,
    question,
)
from tracelab.core.errors import PlanError
from tracelab.core.item import Item, Observation
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.rows import MaskedAnswerRow

RULES: dict[str, Rule] = {
    "two facts needed": needs(0, 1),
    "one fact raises it": needs(2, without=0.2, given=0.7),
    "either will do": lambda kept: 0.9 if kept[0] or kept[3] else 0.05,
    "one fact is against it": lambda kept: 0.3 if kept[4] else 0.8,
    "nothing matters": lambda kept: 0.5,
}


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_effects_are_those_of_the_closed_form(rule: Rule) -> None:
    found = answers(asked(samples=60, level=0.999), rule).run(question())
    value, lo, hi = effects(found)
    assert value == pytest.approx(exact(rule), abs=0.08)
    assert (lo <= exact(rule)).all() and (exact(rule) <= hi).all()
    assert (hi - lo < 0.2).all()
    assert {s.evidence for s in found.effects("response")} == {"executed"}


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_all_masks_with_few_samples_each_are_not_exact(samples: int) -> None:
    """The noise of the answers stays when none of the masks is left to chance."""
    rule = RULES["one fact raises it"]
    held = []
    for seed in range(12):
        w = answers(asked(samples=samples), rule)
        value, lo, hi = effects(w.run(question(id=str(seed), query=f"How much? ({seed})")))
        assert (hi - lo > 0.05).all()
        held += [*((lo <= exact(rule)) & (exact(rule) <= hi))]
    assert np.mean(held) > 0.85  # 60 intervals of 95 %


def test_more_samples_are_surer() -> None:
    rule = RULES["nothing matters"]
    widths = []
    for samples in (2, 8, 32):
        _, lo, hi = effects(answers(asked(samples=samples), rule).run(question()))
        widths.append(float((hi - lo).mean()))
    assert widths[0] > 1.6 * widths[1] > 2.5 * widths[2]


@pytest.mark.parametrize(
    ("rule", "label"),
    [
        (needs(0), "grounded"),
        (lambda kept: 0.02 if kept.sum() < 5 else 1.0, "diffuse"),
        (lambda kept: 0.9, "memory"),
        (lambda kept: 0.1, "ungrounded"),
        (lambda kept: 0.0, "ungrounded"),
        (lambda kept: 1.0, "memory"),
    ],
)
def test_labels_rest_on_what_is_answered_with_and_without(rule: Rule, label: str) -> None:
    masks = 12 if label == "diffuse" else 32  # with all of them, what each adds is found
    found = answers(asked(samples=4, ablations=masks), rule).run(question())
    [t] = found.targets()
    assert (t.label, t.outcome, t.kind) == (label, "answer", "response")
    assert t.value_full == pytest.approx(rule(np.ones(5, bool)), abs=0.3)
    assert (t.logprob_full, t.logprob_empty, t.logprob_alone) == (None, None, None)
    if label != "grounded":
        assert not [s for s in found.effects("response") if label != "diffuse" and s.lo > 0]


def test_the_same_whatever_arrives_first() -> None:
    def once(shuffle: random.Random | None) -> object:
        w = answers(asked(samples=3, held_out=4, ablations=16), RULES["either will do"])
        found = w.run(question(), shuffle=shuffle)
        rows = sorted(found.probes, key=lambda r: (r.item_key, r.replicate))
        return found.findings.scores, found.targets(), found.tests(), rows

    assert once(None) == once(random.Random(1)) == once(random.Random(2))


def test_nothing_is_scored_and_every_answer_is_a_row() -> None:
    w = answers(asked(samples=3), RULES["two facts needed"])
    found = w.run(question())
    items = [i for i in w.asked if isinstance(i, Item)]
    assert all(i.sampling is not None for i in items)
    asked_for = {(i.key, r) for i in items for r in i.replicate_range}
    assert {(r.item_key, r.replicate) for r in found.probes} == asked_for
    assert found.findings.attempted == len(asked_for) == 30 * 3 + 2 * 16
    assert {type(r) for r in found.probes} == {MaskedAnswerRow}
    right = [r for r in found.probes if r.text == boxed(True)]
    assert right and {(r.answer, *r.worth) for r in right} == {("13", 1.0)}


def test_what_failed_or_cannot_be_graded_counts_for_nothing() -> None:
    w = answers(asked(samples=4), needs(0))
    plain = w.change
    lost = {"error": 0, "cut": 0, "none": 0}

    def sometimes(item: Item, o: Observation) -> Observation:
        if o.replicate == 0:
            lost["error"] += 1
            return Observation(o.key, 0, finish_reason="error", error="engine: it fell")
        if o.replicate == 1:
            lost["cut"] += 1
            return Observation(o.key, 1, (5,), "I think", "length")
        if o.replicate == 2:
            lost["none"] += 1
            return Observation(o.key, 2, (5,), "I do not know.", "stop")
        return plain(item, o)

    w.change = sometimes
    found = w.run(question())
    f = found.findings
    assert (f.failed, f.truncated, f.unanswered) == (lost["error"], lost["cut"], lost["none"])
    value, _, _ = effects(found)
    # Of three that were heard, one answers; of the whole context 13 of 15.
    assert value[0] == pytest.approx((15 / 3 + 13 / 15) / 16)
    [full] = [t.value_full for t in found.targets()]
    assert full == pytest.approx(13 / 15)


def test_without_any_answer_it_is_insufficient() -> None:
    w = answers(asked(samples=2), needs(0))
    w.change = lambda item, o: Observation(
        o.key, o.replicate, finish_reason="error", error="engine: it fell"
    )
    found = w.run(question())
    assert {s.status for s in found.effects("response")} == {"insufficient"}
    assert [t.label for t in found.targets()] == ["insufficient"]
    assert found.findings.failed == found.findings.attempted > 0


def test_rewards_compare_with_the_reference_and_answers_with_the_response() -> None:
    """The response says 13, which is wrong: the reference is 5."""
    rule = needs(0)
    same = answers(asked(samples=4), rule).run(question(reference="5"))
    paid = answers(asked(samples=4, compare="reward"), rule).run(question(reference="5"))
    assert effects(same)[0][0] == pytest.approx(1, abs=0.01)
    assert effects(paid)[0][0] == pytest.approx(-1, abs=0.01)


def test_similarity_explains_one_statement_among_others() -> None:
    """Each sentence is written where its own fact is kept."""
    w = asked(samples=2, compare="similarity", similarity="lexical")
    said = ("Kale costs 4.", "Fig takes 7.")

    def write(item: Item, o: Observation) -> Observation:
        prompt = w.speaks.decode(item.prefix_ids)
        text = " ".join(s for s, f in zip(said, FACTS, strict=False) if f in prompt)
        return Observation(o.key, o.replicate, (5,), text or "Nothing.", "stop")

    w.real, w.change = False, write
    found = w.run(question([*said]))
    for k, t in enumerate(found.targets()):
        value, lo, _ = effects(found, t.target)
        assert int(value.argmax()) == k and lo[k] > 0.2
        assert (t.outcome, t.label, t.value_full) == ("similarity", "grounded", pytest.approx(1))
    with pytest.raises(PlanError, match="a contrast of two texts needs log-probabilities"):
        w.prepare(question({"given": " 4.", "rather_than": " 7.", "after": "Kale costs"}))


def test_what_cannot_be_asked_is_said_in_a_sentence() -> None:
    w = asked()
    w.real = False
    with pytest.raises(PlanError, match="about the response as a whole"):
        w.prepare(question("Kale costs 4."))
    with pytest.raises(PlanError, match="no final answer that grading can find"):
        w.prepare(question(response="It is cold today."))
    with pytest.raises(ValidationError, match="`pairs` reads log-probabilities"):
        CiteOptions(outcome="answer", methods=["ablate", "pairs"])
    assert CiteOptions(outcome="logprob", methods=["pairs"])


def test_held_out_masks_and_top_spans_test_sampled_effects_too() -> None:
    w = answers(asked(ablations=16, held_out=12, samples=8, top_k=[1, 2]), needs(0, 1))
    found = w.run(question())
    tests = {r.metric: r.value for r in found.tests(method="ablate")}
    assert tests["lds"] > 0.5
    assert tests["top_1_drop"] == pytest.approx(1.0) == tests["top_2_drop"]
    assert "parametric" not in tests
