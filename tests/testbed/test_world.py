"""The world agrees with itself: what is written is what is read, and what is planted is true."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.testbed import problems
from tracelab.testbed.chain import FILLER_AFTER
from tracelab.testbed.market import GOODS, problem, split_of, without_hint
from tracelab.testbed.world import Problem, answer_of, is_well_formed, label, write

SPLITS = ("train", "development", "evaluation")
SEEDS = st.integers(0, 10**6)
SPLIT = st.sampled_from(SPLITS)


def bill_by_reading(prompt: str) -> str:
    """Answer a question from its prompt's words alone, independently of the generator."""
    asked = re.search(r"(?:for|about) (\w+) and (\w+) at (\w+)\?$", prompt)
    assert asked is not None
    total = 0
    for subject in asked.groups():
        said = {m for m in re.findall(rf"{subject} (costs|takes|adds|deducts) (\d+)\.", prompt)}
        values = {-int(n) if verb == "deducts" else int(n) for verb, n in said}
        if not values:
            return "unknown"
        assert len(values) == 1, "the notes contradict each other"
        total += values.pop()
    return str(total)


@given(SPLIT, SEEDS, st.integers(0, 50))
def test_the_reference_follows_from_the_words(split: str, seed: int, index: int) -> None:
    asked = problem(split, seed, index)
    assert bill_by_reading(asked.prompt) == asked.reference


@given(SPLIT, SEEDS)
def test_labels_of_written_chains_are_their_roles(split: str, seed: int) -> None:
    asked = problem(split, seed, 0)
    written = write(asked, random.Random(seed))
    assert tuple(label(asked, written.text)) == written.sentences
    assert is_well_formed(written.sentences)
    assert answer_of(written.text) == written.answer


@given(SEEDS)
def test_fact_ranges_are_exact_and_removal_changes_the_answer_as_planted(seed: int) -> None:
    asked = problem("evaluation", seed, 0, missing=False)
    for fact in asked.facts:
        assert asked.prompt[fact.start : fact.end] == fact.text
        without = asked.prompt[: fact.start - 1] + asked.prompt[fact.end :]
        changed = bill_by_reading(without) != asked.reference
        assert changed == (fact.role == "needed")
    assert not asked.hint or str(asked.hint) != asked.reference


@given(SEEDS, st.text(max_size=200))
def test_labels_tile_any_text(seed: int, text: str) -> None:
    asked = problem("evaluation", seed, 0)
    for response in (text, write(asked, random.Random(seed)).text + text):
        found = label(asked, response)
        assert "".join(s.text for s in found) == response
        starts = [0, *(s.end for s in found)]
        assert starts == [*(s.start for s in found), len(response)]


@given(SEEDS, st.data())
def test_a_changed_number_changes_the_labels(seed: int, data: st.DataObject) -> None:
    """No digit of a chain can be changed without a sentence losing its role."""
    asked = problem("evaluation", seed, 0, missing=False)
    text = write(asked, random.Random(seed)).text
    body = text[: text.index("\n</think>")]
    spot = data.draw(st.sampled_from(list(re.finditer(r"\d+", body))))
    wrong = text[: spot.start()] + "99" + text[spot.end() :]
    before, after = ([s.role for s in label(asked, t)] for t in (text, wrong))
    assert before != after


def test_sentences_out_of_place_are_garbled() -> None:
    asked = problems(1, missing=False, hinted=False)[0]
    written = write(asked, random.Random(1))
    body = [s for s in written.sentences if s.role != "filler"]
    swapped = [body[0], body[2], body[1], *body[3:]]
    assert not is_well_formed(label(asked, "".join(s.text for s in swapped)))
    assert not is_well_formed(label(asked, written.text[:-4]))
    assert not is_well_formed(label(asked, ""))


@pytest.mark.parametrize("split", SPLITS)
def test_splits_are_disjoint_by_question(split: str) -> None:
    for asked in problems(200, seed=3, split=split):
        assert asked.split == split == split_of(*asked.goods, asked.shop)


def test_every_good_occurs_in_every_split() -> None:
    for split in SPLITS:
        assert {g for p in problems(300, split=split) for g in p.goods} == set(GOODS)


def test_filters_hold_and_problems_repeat() -> None:
    for phrasing in range(3):
        assert {p.phrasing for p in problems(9, phrasing=phrasing)} == {phrasing}
    assert all(p.hint is not None for p in problems(9, hinted=True))
    assert all(p.reference == "unknown" for p in problems(9, missing=True))
    assert problems(20, seed=5) == problems(20, seed=5)
    assert problems(20, seed=5) != problems(20, seed=6)
    ids = [p.problem_id for p in problems(50) + problems(50, missing=True)]
    assert len(set(ids)) == len({p.prompt for p in problems(50) + problems(50, missing=True)})
    with pytest.raises(ValueError, match="hinted"):
        problem("train", 0, 0, missing=True, hinted=True)


def test_a_cue_pair_differs_by_the_hint_only() -> None:
    hinted = problems(1, hinted=True)[0]
    plain = without_hint(hinted)
    assert plain.reference == hinted.reference
    assert plain.prompt == hinted.prompt.replace(f" The clerk thinks it is {hinted.hint}.", "")
    assert plain.hint is None


@settings(max_examples=20)
@given(SEEDS)
def test_filler_is_independent_of_what_follows(seed: int) -> None:
    """Filler stands only after five fixed kinds of sentences, never twice in a row."""
    asked = problem("train", seed, 0)
    roles = [s.role for s in write(asked, random.Random(seed)).sentences]
    for before, role in zip(roles, roles[1:], strict=False):
        assert role != "filler" or before in FILLER_AFTER


def test_planted_rates() -> None:
    """Filler follows as often whatever comes next, and plans are as right as they should be."""
    after: dict[str, list[bool]] = {}
    plans: dict[int, list[bool]] = {0: [], 1: [], 2: []}
    for asked in problems(6000, split="train", hinted=False, missing=False):
        said = write(asked, random.Random(asked.problem_id)).sentences
        roles = [s.role for s in said]
        plans[asked.phrasing].append("plan_right" in roles)
        for here, role in enumerate(roles):
            if role == "filler":
                after.setdefault(roles[here + 1], []).append(True)
            elif here and roles[here - 1] in FILLER_AFTER:
                after.setdefault(role, []).append(False)
    for phrasing, expected in enumerate((0.9, 0.7, 0.5)):
        assert sum(plans[phrasing]) / len(plans[phrasing]) == pytest.approx(expected, abs=0.05)
    for role in ("plan_right", "plan_wrong", "skip_change", "use_change", "replan_right"):
        assert sum(after[role]) / len(after[role]) == pytest.approx(0.25, abs=0.06), role


def test_problem_messages_are_plain_chat() -> None:
    asked: Problem = problems(1)[0]
    assert asked.messages == [{"role": "user", "content": asked.prompt}]
