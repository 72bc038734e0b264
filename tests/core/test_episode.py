"""Episodes: nothing is lost on the way to JSON or to a trace, and inputs are stored once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tracelab.core.episode import Arguments, Episode, InputStore, Label, Step, ToolCall, fold_role
from tracelab.core.trace import Trace

text = st.text(max_size=12)
maybe = st.none() | text
counts = st.none() | st.integers(0, 10**6)
values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | text,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(text, inner, max_size=2),
    max_leaves=4,
)
arguments = (text | values).map(Arguments.of)
calls = st.builds(ToolCall, name=text, arguments=arguments, id=maybe)


@st.composite
def episodes(draw: st.DrawFn) -> Episode:
    store = InputStore()
    steps = []
    for i in range(draw(st.integers(0, 5))):
        kind = draw(st.sampled_from(["llm", "tool", "user", "system"]))
        result = draw(maybe) if kind == "tool" else None
        steps.append(
            Step(
                index=i,
                kind=kind,
                agent=draw(maybe),
                content=draw(text) if draw(st.booleans()) else result or "",
                calls=tuple(draw(st.lists(calls, max_size=2))),
                tool=draw(maybe),
                tool_call_id=draw(maybe),
                arguments=draw(st.none() | arguments),
                result=result,
                input=store.chain(draw(st.lists(values, max_size=3))),
                tools=draw(st.none() | values.map(store.put)),
                prompt_tokens=draw(counts),
                output_tokens=draw(counts),
                parent=draw(st.none() | st.integers(0, 4)),
                flags=tuple(draw(st.lists(text, max_size=2))),
            )
        )
    label = st.none() | st.builds(Label, st.none() | st.integers(0, 9), maybe, maybe)
    return Episode(
        name=draw(text),
        steps=tuple(steps),
        format="x",
        line=draw(st.integers(0, 3)),
        task=draw(text),
        success=draw(st.none() | st.booleans()),
        reward=draw(st.none() | st.sampled_from([0.0, 0.5, 1.0])),
        label=draw(label),
        messages=store.messages,
        inputs=store.inputs,
        meta=draw(st.dictionaries(text, values, max_size=2)),
        notes=tuple(draw(st.lists(text, max_size=2))),
    )


@settings(max_examples=50)
@given(episodes())
def test_round_trips(episode: Episode) -> None:
    assert Episode.from_json(json.loads(json.dumps(episode.to_json()))) == episode
    trace = Trace.of_episode(episode)
    assert Trace.from_json(json.loads(json.dumps(trace.to_json()))).episode == episode


@settings(max_examples=50)
@given(episodes())
def test_units_tile_the_transcript(episode: Episode) -> None:
    response, units = Trace.of_episode(episode).response, episode.step_units()
    assert "".join(u.text for u in units) == response
    assert [u.index for u in units] == list(range(len(episode.steps)))
    at = 0
    for unit in units:
        assert (unit.kind, unit.start, response[unit.start : unit.end]) == ("step", at, unit.text)
        at = unit.end
    assert at == len(response)


def test_inputs_that_grow_are_stored_once() -> None:
    store = InputStore()
    said = [{"role": "user", "content": str(i)} for i in range(300)]
    keys = [store.chain(said[:n]) for n in range(1, 301)]
    assert len(store.messages) == len(store.inputs) == 300
    steps = tuple(Step(i, "llm", input=key) for i, key in enumerate(keys))
    episode = Episode("e", steps, "x", messages=store.messages, inputs=store.inputs)
    assert episode.model_input(299) == said
    assert episode.model_input(41) == said[:42]
    assert store.chain(said[:42]) == keys[41]  # content-addressed
    assert store.chain(said[1:42]) != keys[41]


def test_an_input_that_was_not_logged_is_none() -> None:
    episode = Episode("e", (Step(0, "llm"),), "x")
    assert episode.model_input(0) is None


def test_arguments() -> None:
    assert Arguments.of('{"a": 1}') == Arguments('{"a": 1}', {"a": 1})
    assert Arguments.of({"a": 1}) == Arguments('{"a": 1}', {"a": 1})
    assert Arguments.of("") == Arguments("")
    for bad in ('{"a": ', "NaN", "[" * 10_000, "9" * 5000):
        broken = Arguments.of(bad)
        assert (broken.raw, broken.parsed) == (bad, None)
        assert broken.error is not None and broken.error.startswith("not valid JSON")


def test_a_missing_result_is_not_an_empty_one() -> None:
    missing, empty = Step(0, "tool"), Step(0, "tool", result="")
    assert Episode.from_json(Episode("e", (missing,), "x").to_json()).steps == (missing,)
    assert Episode.from_json(Episode("e", (empty,), "x").to_json()).steps == (empty,)
    assert "no result" in missing.text() and empty.text() == ""


def test_runs_that_went_alike_remain_two() -> None:
    one, two = (Episode(name, (Step(0, "llm", content="x"),), "x") for name in ("a/1", "a/2"))
    assert Trace.of_episode(one).trace_id != Trace.of_episode(two).trace_id


@pytest.mark.parametrize(
    ("role", "agent"),
    [
        ("Orchestrator (thought)", "Orchestrator"),
        ("Orchestrator (-> WebSurfer)", "Orchestrator"),
        ("WebSurfer", "WebSurfer"),
        (" A ", "A"),
        ("(x)", "(x)"),
        ("", ""),
    ],
)
def test_fold_role(role: str, agent: str) -> None:
    assert fold_role(role) == agent
