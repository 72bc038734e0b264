"""The scripted engine's arithmetic against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers import written
from tracelab.core.trace import Trace, Turn
from tracelab.engines.scripted import Script, ScriptTokenizer


def paths(script: Script):
    """Every way the script can go: (probability, tokens, answer)."""
    todo = [(1.0, (), "", 0)]
    while todo:
        p, tokens, state, slot = todo.pop()
        if slot == len(script.slots):
            yield p, tokens, state
            continue
        for line in script.slots[slot][state]:
            todo.append((p * line.p, tokens + script.spelled[line.text], line.state, slot + 1))


@pytest.mark.parametrize("seed", range(4))
def test_answers_after_any_prefix_equal_enumeration(seed: int) -> None:
    script = Script.random(np.random.default_rng(seed), slots=3)
    every = list(paths(script))
    assert sum(p for p, *_ in every) == pytest.approx(1)
    some = every[0][1]
    for k in range(len(some)):
        kept = [(p, a) for p, t, a in every if t[:k] == some[:k]]
        mass = sum(p for p, _ in kept)
        for answer, q in script.answers(some[:k]).items():
            truth = sum(p for p, a in kept if script_answer(a) == script_answer(answer)) / mass
            assert q == pytest.approx(truth)


def script_answer(state: str) -> str:
    return state


@pytest.mark.parametrize("seed", range(4))
def test_next_token_is_the_ratio_of_prefix_masses(seed: int) -> None:
    script = Script.random(np.random.default_rng(seed), slots=3)
    every = list(paths(script))
    tokens = every[-1][1]
    for k in range(len(tokens)):
        dist = script.next_token(tokens[:k])
        assert sum(dist.values()) == pytest.approx(1)
        mass = sum(p for p, t, _ in every if t[:k] == tokens[:k])
        for token, q in dist.items():
            longer = sum(p for p, t, _ in every if t[: k + 1] == (*tokens[:k], token))
            assert q == pytest.approx(longer / mass)


def test_a_text_the_script_cannot_write_has_no_future(script) -> None:
    assert script.next_token([1, 2, 3]) == {}
    assert script.answers([1, 2, 3]) == {}


@given(st.text(max_size=60))
def test_tokenizer_places_every_character(text: str) -> None:
    script = Script.planted()
    tokenizer = ScriptTokenizer(script)
    trace = Trace(turns=(Turn("user", "q"), Turn("assistant", text)), name="t")
    tokens = tokenizer.tokenize(trace)
    assert list(tokens.starts) == sorted(tokens.starts)
    assert tokenizer.decode(tokens.response_ids) == text.encode("utf-8", "replace").decode()


def test_tokenizer_round_trips_what_the_script_writes(script, script_tokenizer) -> None:
    for seed in range(20):
        text = written(script, np.random.default_rng(seed))
        trace = Trace(turns=(Turn("user", "q"), Turn("assistant", text)), name="t")
        tokens = script_tokenizer.tokenize(trace)
        assert script_tokenizer.decode(tokens.response_ids) == text
        assert all(i >= 256 for i in tokens.response_ids)
        pieces = itertools.pairwise([*tokens.starts, len(text)])
        assert "".join(text[a:b] for a, b in pieces) == text
