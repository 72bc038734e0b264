"""Logs of every format become the run that was recorded: the same tokens, the same results."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import tracelab
from tests.agent_files import WRITERS, Market, failed_runs, messages_of
from tests.studies.audit.audit_world import TextTokens
from tracelab.core.episode import Arguments, Episode
from tracelab.core.errors import PlanError
from tracelab.core.messages import definitions, plain
from tracelab.core.seam import RecordedRun, Reject
from tracelab.engines.tokenizer import HFTokenizer
from tracelab.environments.replay import ReplayEnvironment, one_chat
from tracelab.environments.user import UserEnvironment
from tracelab.sources import read
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.recorded import recorded_run
from tracelab.studies.chat import Chat

RUNS = failed_runs(4)
FORMATS = sorted(set(WRITERS) - {"who-and-when"})


@pytest.fixture(scope="module")
def chat() -> Chat:
    return Chat(HFTokenizer(str(Path(tracelab.__file__).parent / "testbed" / "model")))


def runs_of(path: Path, chat: Chat) -> list[RecordedRun]:
    found = []
    for trace in read(path):
        assert not isinstance(trace, Reject), trace
        episode = trace.episode
        assert episode is not None
        found.append(recorded_run(Episode.from_json(episode.to_json()), chat.spell))
    return found


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_the_prompts_and_actions_of_the_run(
    form: str, tmp_path: Path, chat: Chat
) -> None:
    found = runs_of(WRITERS[form](tmp_path, RUNS), chat)
    assert len(found) == len(RUNS)
    for got, was in zip(found, RUNS, strict=True):
        assert got.actions == was.actions and got.tools == was.tools and got.score == 0.0
        for mine, theirs in zip(got.before, was.before, strict=True):
            assert chat.prompt(mine) == chat.prompt(theirs)
        if form != "atif":  # which has one agent a trajectory
            assert got.agents == was.agents
        environment = UserEnvironment(Market())
        task = {**got.task, "task_id": was.name}
        state = environment.restore(replace(got, task=task), 0)
        for action in got.actions:
            state = environment.step(action)
        assert [m["content"] for m in state.messages if m["role"] == "tool"] == [
            m["content"] for m in was.after if m["role"] == "tool"
        ]


def test_a_log_of_another_model_is_refused_with_the_reason(tmp_path: Path, chat: Chat) -> None:
    [trace] = read(WRITERS["who-and-when"](tmp_path, RUNS[:1]))
    assert not isinstance(trace, Reject)
    episode = trace.episode
    assert episode is not None
    with pytest.raises(PlanError, match="no continuation of its prompt .* ends in '<think>'"):
        recorded_run(episode, chat.spell)


def test_the_order_of_arguments_is_what_the_model_wrote() -> None:
    arguments = Arguments.of({"x": 1, "operation": "plus", "y": 2})
    assert Arguments.of(arguments.raw) == arguments
    assert list(arguments.parsed) == ["x", "operation", "y"]


@pytest.mark.parametrize(
    "message",
    [
        {"function": {"name": "get", "arguments": '{"b": 1, "a": 2}'}, "id": "7"},
        {"function": "get", "arguments": {"b": 1, "a": 2}, "id": "7", "type": "function"},
        {"name": "get", "input": {"b": 1, "a": 2}, "id": "7", "type": "tool_use"},
    ],
)
def test_tool_calls_of_any_form_are_one_form(message: dict[str, Any]) -> None:
    got = plain({"role": "assistant", "content": None, "tool_calls": [message]})
    call = {
        "id": "7",
        "type": "function",
        "function": {"name": "get", "arguments": {"b": 1, "a": 2}},
    }
    assert got == {"role": "assistant", "content": "", "tool_calls": [call]}


def test_what_cannot_be_given_to_a_model_is_refused() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert plain({"role": "developer", "content": parts}) == {"role": "system", "content": "ab"}
    with pytest.raises(PlanError, match="no text"):
        plain({"role": "user", "content": [{"type": "image_url", "image_url": {}}]})
    with pytest.raises(PlanError, match="no role"):
        plain({"content": "x"})
    with pytest.raises(PlanError, match="no name"):
        definitions([{"description": "x"}])


class Offering(TextTokens):
    """A template that shows the tools."""

    def chat_text(self, messages: Any, rendering: Any, *, ask: bool = True, tools: Any = ()) -> str:
        shown = ",".join(t["function"]["name"] for t in tools)
        return f"[{shown}]" + super().chat_text(messages, rendering, ask=ask)


@pytest.mark.parametrize(
    "tools",
    [
        [{"type": "function", "function": {"name": "get", "parameters": {}}}],
        [{"name": "get", "description": "x", "parameters": {}}],
        [{"name": "get", "input_schema": {}}],
    ],
)
def test_the_model_is_offered_the_recorded_tools(tools: list[Any], tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "<think>\na"}]
    path.write_text(json.dumps(
        {"messages": messages, "tools": tools, "success": False}))  # fmt: skip
    chat = Chat(Offering())
    [run] = runs_of(path, chat)
    text = "".join(map(chr, chat.prompt(run.before[0], run.offered_at(0))))
    assert text.startswith("[get]") and run.offered_at(9) == run.offered_at(0)
    assert RecordedRun.of(asdict(run)) == run


def calling(name: str) -> str:
    return f"<tool_call>{name}</tool_call>"


def said(*pairs: tuple[str, str]) -> tuple[dict[str, str], ...]:
    return tuple({"role": r, "content": c} for r, c in pairs)


def two_chats() -> RecordedRun:
    """A planner's chat, a worker's, and the planner's again."""
    first = said(("user", "task"))
    worker = said(("system", "work"), ("user", "do it"))
    worker2 = (*worker, *said(("assistant", calling("look a")), ("tool", "1")))
    planner = (*first, *said(("assistant", "plan"), ("user", "worker says 1")))
    return RecordedRun(
        "r", {"reference": "2"}, ("plan", calling("look a"), "it is 1", "1"),
        (first, worker, worker2, planner), (*planner, *said(("assistant", "1"))),
        ("planner", "worker", "worker", "planner"), (None, "look", None, None), (0, 1, 3, 4), 0.0,
    )  # fmt: skip


def test_a_replay_of_several_chats_follows_the_record_and_censors_what_it_cannot_know() -> None:
    run = two_chats()
    assert not one_chat(run) and all(one_chat(r) for r in RUNS)
    env = ReplayEnvironment(lambda text, reference: float(text == reference))
    state = env.restore(run, 0)
    for t, action in enumerate(run.actions):
        assert state.messages == run.before[t]
        state = env.step(action)
    assert state.done and env.score() == 0.0
    state = env.restore(run, 1)
    state = env.step(calling("look  a"))  # off the record; the call is known
    assert state.messages[-1] == {"role": "tool", "content": "1"}
    state = env.step("it is 2")
    assert state.ended == "censored", "what the planner would be told is not known"


def test_after_leaving_the_record_a_recorded_reply_is_no_reply() -> None:
    """The plan of the record after another look-up: what was answered then is not known now."""
    first = said(("user", "task"))
    second = (*first, *said(("assistant", calling("look a")), ("tool", "1")))
    third = (*second, *said(("assistant", "a plan"), ("user", "go on")))
    run = RecordedRun(
        "r", {"reference": "2"}, (calling("look a"), "a plan", "1"), (first, second, third),
        (*third, *said(("assistant", "1"))), (None,) * 3, ("look", None, None), (0, 2, 4), 0.0,
    )  # fmt: skip
    env = ReplayEnvironment(lambda text, reference: float(text == reference))
    env.restore(run, 0)
    env.step("I think. " + calling("look a"))
    assert env.step("a plan").ended == "censored"


def apart(message: dict[str, Any], key: str) -> dict[str, Any]:
    """A message whose reasoning stands beside its content, as servers with a parser write it."""
    thought, mark, rest = str(message["content"]).partition("\n</think>\n\n")
    if message["role"] != "assistant" or not mark:
        return message
    thought = thought.removeprefix("<think>\n")
    if key == "part":
        parts = [{"type": "reasoning", "reasoning": thought}, {"type": "text", "text": rest}]
        return {**message, "content": parts}
    return {**message, "content": rest, key: thought}


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "part"])
def test_reasoning_that_a_log_keeps_apart_is_part_of_the_action(
    key: str, tmp_path: Path, chat: Chat
) -> None:
    path = tmp_path / "runs.jsonl"
    chats = [[apart(m, key) for m in messages_of(r)] for r in RUNS]
    assert any(m["role"] == "assistant" and "<think>" not in str(m) for c in chats for m in c)
    lines = [{"id": r.name, "messages": c, "success": False}
             for r, c in zip(RUNS, chats, strict=True)]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for got, was in zip(runs_of(path, chat), RUNS, strict=True):
        assert got.actions == was.actions


class Ignoring(TextTokens):
    """A template that drops reasoning and opens none."""

    def chat_text(self, messages: Any, rendering: Any, *, ask: bool = True, tools: Any = ()) -> str:
        text = "".join(f"[{m['role']}]{m['content']}." for m in messages)
        return text + "[assistant]" * ask


def test_reasoning_is_never_dropped_from_an_action() -> None:
    before = [{"role": "user", "content": "q"}]
    message = {"role": "assistant", "content": "7", "reasoning_content": "3 + 4"}
    assert Chat(Ignoring()).spell(before, message) == "<think>\n3 + 4\n</think>\n\n7"


def case_of(messages: list[dict[str, Any]], tmp_path: Path) -> AgentRun:
    path = tmp_path / "run.json"
    path.write_text(json.dumps({"messages": messages, "success": False}))
    [trace] = read(path)
    assert not isinstance(trace, Reject), trace
    return AgentRun.of(trace)


ASKED = {"id": "c1", "type": "function", "function": {"name": "get", "arguments": '{"id": 7}'}}
CALLED = [
    {"role": "user", "content": "Find 7."},
    {"role": "assistant", "content": "I look.", "tool_calls": [ASKED]},
    {"role": "tool", "tool_call_id": "c1", "content": "Nothing."},
    {"role": "assistant", "content": "There is none."},
]


def test_a_run_whose_calls_a_template_cannot_show_is_refused(tmp_path: Path) -> None:
    """Else the action is an empty text, and the environment is blamed for not answering it."""
    with pytest.raises(PlanError) as e:
        case_of(CALLED, tmp_path).recorded(Chat(Ignoring()), most=9, context_length=9999)
    assert str(e.value) == (
        "step 1: the model's chat template does not show the call of tool 'get' in message 2 "
        "(assistant): 'get'"
    )


def test_reasoning_in_a_chat_is_given_as_the_template_takes_it(tmp_path: Path, chat: Chat) -> None:
    """The testbed's template takes no `reasoning_content`, and does show reasoning in a text."""
    messages = [apart(m, "reasoning_content") for m in messages_of(RUNS[0])]
    run = case_of(messages, tmp_path).recorded(chat, most=99, context_length=9999)
    assert [chat.prompt(b) for b in run.before] == [chat.prompt(b) for b in RUNS[0].before]


def test_an_image_in_a_conversation_is_refused(tmp_path: Path, chat: Chat) -> None:
    picture = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "see"}]
    case = case_of([{"role": "user", "content": picture}, CALLED[-1]], tmp_path)
    with pytest.raises(PlanError, match="parts that are no text"):
        case.recorded(chat, most=9, context_length=9999)
    bare = replace(case.episode, inputs={}, messages={}, steps=tuple(
        replace(s, input=None) for s in case.episode.steps))  # fmt: skip
    with pytest.raises(PlanError, match=r"step 0 \(user\) has parts that are no text"):
        recorded_run(bare, chat.spell)
