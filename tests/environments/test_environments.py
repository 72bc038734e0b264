"""Environments keep the contract, and what is hostile or broken fails one re-execution only."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.seam import EnvironmentFailure, MakeEnvironment, RecordedRun, State
from tracelab.core.trace import Trace
from tracelab.environments import ENVIRONMENTS, make_environment
from tracelab.environments.base import EnvironmentKind, Grade, as_score, as_state
from tracelab.environments.command import ProcessEnvironment
from tracelab.environments.replay import ReplayEnvironment, canonical, keys_of
from tracelab.environments.testbed import MarketWorld
from tracelab.environments.user import UserEnvironment
from tracelab.run.regression import export, load
from tracelab.studies.audit.corrected import Corrected
from tracelab.studies.audit.recorded import recorded_run
from tracelab.studies.audit.rerun import require_safe
from tracelab.testbed.agent_labels import NoFaults, play
from tracelab.testbed.agent_runs import as_episode, recorded
from tracelab.testbed.agent_world import task

TASK = {"split": "train", "seed": 11, "index": 3}


def played(data: Mapping[str, Any] = TASK, seed: int = 0) -> RecordedRun:
    asked = task(data["split"], data["seed"], data["index"])
    actions = play(asked, random.Random(seed))
    env = MarketWorld()
    state, before = env.reset(data), []
    for action in actions:
        before.append(state.messages)
        state = env.step(action)
    return recorded("run", data, actions, before, state, env.score())


class Counting:
    """A user's environment: success is to say the number that is asked for."""

    side_effects = False

    def reset(self, task: Mapping[str, Any]) -> list[dict[str, str]]:
        self.wanted, self.said = str(task["wanted"]), ""
        return [{"role": "user", "content": "count"}]

    def restore(self, run: RecordedRun, t: int) -> dict[str, Any]:
        self.reset(run.task)
        return {"messages": [dict(m) for m in run.before[t]]}

    def step(self, action: str) -> dict[str, Any]:
        if action == "raise":
            raise RuntimeError("as asked")
        self.said = action
        return {"messages": [{"role": "user", "content": "count"}], "done": True}

    def score(self) -> float:
        return float(self.said == self.wanted)


SPEC = f"{__name__}:Counting"


def test_the_testbed_restores_to_where_the_record_stood() -> None:
    run = played()
    for t in range(len(run.actions)):
        env = MarketWorld()
        state = env.restore(run, t)
        for i in range(t, len(run.actions)):
            assert state.messages == run.before[i] and not state.done
            state = env.step(run.actions[i])
        assert state.done and state.messages == run.after
        assert env.score() == run.score


def test_an_episode_of_the_testbed_is_an_episode_like_any_other() -> None:
    run = next(r for i in range(50) if (r := played({**TASK, "index": i}, i)).score == 0.0)
    episode = as_episode(run)
    assert Episode.from_json(episode.to_json()) == episode
    assert Trace.of_episode(episode).episode == episode
    assert [episode.steps[i].content.removeprefix("<think>\n") for i in run.steps] == list(
        run.actions
    )
    assert [list(episode.model_input(i) or ()) for i in run.steps] == [list(b) for b in run.before]


def test_a_random_environment_repeats_under_one_seed_only() -> None:
    data = {**TASK, "flaky": 0.4}
    run = played(TASK, 1)

    def replies(seed: int) -> list[int]:
        env = MarketWorld()
        env.seed(seed)
        env.reset(data)
        for action in run.actions:
            env.step(action)
        return env.flakes

    assert replies(1) == replies(1)
    assert len({tuple(replies(s)) for s in range(20)}) > 1


def test_the_environments_correction_is_right() -> None:
    for i in range(40):
        data = {**TASK, "index": i}
        run = played(data, i)
        asked = task(data["split"], data["seed"], data["index"])
        if run.score == 1.0 or asked.hidden:
            continue
        env = MarketWorld()
        [better] = env.correction(run, 0)
        env.restore(run, 0)
        env.step(better)
        rest = play(asked, NoFaults(), [better])
        assert MarketWorld().reset(data) == State(tuple(asked.messages))
        assert rest[0] == better
        return
    raise AssertionError("no failure among the tasks")


@pytest.mark.parametrize(
    ("said", "calls"),
    [
        ("x</think><tool_call>lookup Kale</tool_call>", [("lookup", "Kale")]),
        ('<tool_call>\n{"name": "f", "arguments": {"b": 1, "a": 2}}\n</tool_call>',
         [("f", '{"a":2,"b":1}')]),
        ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', [("f", '{"a":1}')]),
        ("no call", []),
        ("<tool_call>[1]</tool_call>", [("[1]", "")]),
    ],
)  # fmt: skip
def test_calls_are_read_in_one_form(said: str, calls: list[tuple[str, str]]) -> None:
    assert keys_of(said) == calls
    assert canonical({"b": 1, "a": [1, "x"]}) == canonical('{"a": [1, "x"], "b": 1}')


def test_a_replay_answers_on_the_record_and_censors_off_it() -> None:
    run = played()
    asked = task(TASK["split"], TASK["seed"], TASK["index"])  # type: ignore[arg-type]
    with_reference = RecordedRun(
        **{f: getattr(run, f) for f in run.__slots__ if f != "task"},
        task={"reference": asked.reference},
    )
    env = ReplayEnvironment(lambda text, reference: float(f"{{{reference}}}" in text))
    state = env.restore(with_reference, 0)
    for t, action in enumerate(run.actions):
        assert state.messages == run.before[t]
        state = env.step(action)
    assert state.done and env.score() == run.score
    env.restore(with_reference, 1)
    off = env.step("I look.\n</think>\n\n<tool_call>lookup Nowhere</tool_call>")
    assert (off.done, off.ended, env.score()) == (True, "censored", None)
    env.restore(with_reference, 1)
    assert not env.step(f"Other words.\n</think>{run.actions[1].partition('</think>')[2]}").done
    with pytest.raises(ConfigError, match="recorded runs"):
        env.reset({})


def test_user_code_is_checked() -> None:
    env = make_environment(SPEC, lambda a, b: None)()
    assert env.reset({"wanted": 3}).messages == ({"role": "user", "content": "count"},)
    assert env.step("3").ended == "answer" and env.score() == 1.0
    with pytest.raises(EnvironmentFailure, match="as asked"):
        env.step("raise")


@pytest.mark.parametrize(
    "spec",
    ["nothing", "no.such.module:X", f"{__name__}:TASK", "json:loads", "command: /no/such/program"],
)
def test_what_is_no_environment_is_refused(spec: str) -> None:
    with pytest.raises(ConfigError, match="audit.environment"):
        make_environment(spec, lambda a, b: None)


def test_side_effects_must_be_denied_or_acknowledged() -> None:
    class Silent(Counting):
        side_effects = None  # type: ignore[assignment]

    class Effects(Counting):
        side_effects = True

    for env, word in ((Silent(), "does not say"), (Effects(), "has side effects")):
        with pytest.raises(ConfigError, match=word):
            require_safe(env, False, "mine")  # type: ignore[arg-type]
        require_safe(env, True, "mine")  # type: ignore[arg-type]
    require_safe(Counting(), False, "mine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    [None, 3, "text", {"messages": "x"}, [{"role": 1, "content": ""}],
     {"messages": [], "ended": "whatever"}],
)  # fmt: skip
def test_a_reply_that_is_no_state_fails_the_rerun(value: object) -> None:
    with pytest.raises(EnvironmentFailure):
        as_state(value)


@pytest.mark.parametrize("value", [float("nan"), -0.1, 1.5, "1", [1]])
def test_a_score_outside_its_range_fails_the_rerun(value: object) -> None:
    with pytest.raises(EnvironmentFailure):
        as_score(value)


def served() -> ProcessEnvironment:
    return ProcessEnvironment(
        [sys.executable, "-m", "tracelab.environments.serve", SPEC], timeout_s=60
    )


def test_a_class_served_as_a_command_is_the_same_environment() -> None:
    env = served()
    try:
        assert env.side_effects is False
        env.reset({"wanted": 4})
        assert env.step("4") == State(({"role": "user", "content": "count"},), True, "answer")
        assert env.score() == 1.0
        run = RecordedRun("r", {"wanted": 4}, ("5",), (({"role": "user", "content": "q"},),), (),
                          ("a",), (None,), (0,), 0.0)  # fmt: skip
        assert env.restore(run, 0).messages == ({"role": "user", "content": "q"},)
        with pytest.raises(EnvironmentFailure, match="as asked"):
            env.step("raise")
        assert env.score() == 0.0, "it goes on after an error"
    finally:
        env.close()


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import time; time.sleep(60)", "longer than"),
        ("raise SystemExit", "ended"),
        ("print('no json', flush=True); input(); input()", "no line of JSON"),
        ("print('[1]', flush=True); input(); input()", "no JSON object"),
        ("print('{}', flush=True); input(); input()", "has no id, and the request had 1"),
        ("print('{\"id\": true}', flush=True); input(); input()", "has the id True"),
        ("print('{\"id\": 2}', flush=True); input(); input()", "has the id 2"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "no line of JSON"),
    ],
)
def test_a_broken_command_fails_and_is_ended(code: str, why: str) -> None:
    deadline = 1 if why == "longer than" else 60
    env = ProcessEnvironment([sys.executable, "-c", code], timeout_s=deadline)
    with pytest.raises(EnvironmentFailure, match=why):
        env.reset({})
    assert env._child.process is None
    env.close()


def test_an_extra_line_does_not_shift_the_answers(tmp_path: Path) -> None:
    script = tmp_path / "environment.py"
    script.write_text(
        "import json, sys\n"
        "for n, line in enumerate(sys.stdin):\n"
        "    asked = json.loads(line)\n"
        "    said = asked.get('action', 'begin')\n"
        "    state = {'messages': [{'role': 'user', 'content': said}], 'done': False}\n"
        "    for _ in range(1 + (n == 1)):\n"  # the second answer is printed twice
        "        print(json.dumps({'id': asked['id'], **state}), flush=True)\n"
    )
    env = ProcessEnvironment([sys.executable, str(script)], timeout_s=60)
    env.reset({})
    assert env.step("one").messages[0]["content"] == "one"
    with pytest.raises(EnvironmentFailure, match="has the id 2, and the request had 3"):
        env.step("two")
    assert env.reset({}).messages[0]["content"] == "begin", "another process, asked from new"
    env.close()


def test_logs_become_runs_that_can_be_executed() -> None:
    call = ToolCall("get", Arguments.of('{"id": 7}'), "c1")
    episode = Episode(
        "log",
        (
            Step(0, "user", "user", "Find 7."),
            Step(1, "llm", "helper", "", calls=(call,)),
            Step(2, "tool", "helper", "404", tool="get", tool_call_id="c1", result="404"),
            Step(3, "llm", "helper", "Not found."),
        ),
        "openai-chat",
        task="Find 7.",
        success=False,
    )
    run = recorded_run(episode, lambda _, message, __: json.dumps(message.get("tool_calls", "")))
    assert run.steps == (1, 3) and run.agents == ("helper", "helper") and run.tools == ("get", None)
    assert [m["role"] for m in run.before[1]] == ["user", "assistant", "tool"]
    assert run.score == 0.0
    # One that nobody scored gets here only where the user says that it failed.
    assert recorded_run(Episode("x", episode.steps, "f"), lambda *_: "").score == 0.0
    with pytest.raises(PlanError, match="written by a model"):
        recorded_run(Episode("x", episode.steps[:1], "f", success=False), lambda b, m: "")


def test_an_exported_test_replays_the_failure_and_the_fix(tmp_path: Path) -> None:
    for i in range(60):
        data = {**TASK, "index": i}
        run, asked = played(data, i), task("train", 11, i)
        fixed = play(asked, NoFaults())
        if run.score == 0.0 and not asked.hidden and len(run.actions) > 2:
            case = Corrected("testbed", run, 0, tuple(fixed), "because")
            assert Corrected.of(json.loads(json.dumps(case.to_json()))) == case
            [path] = export([case], tmp_path)
            assert load(path.with_suffix(".json")) == case
            code: dict[str, Any] = {"__file__": str(path), "__name__": "exported"}
            exec(compile(path.read_text(), str(path), "exec"), code)
            for name in [n for n in code if n.startswith("test_")]:
                code[name]()
            return
    raise AssertionError("no failure among the tasks")


class Flimsy(Counting):
    """Breaks where nobody looks: when it is made a second time, seeded, or closed."""

    made = 0

    def __init__(self) -> None:
        Flimsy.made += 1
        if Flimsy.made > 2:
            raise OSError("no more connections")

    def seed(self, n: int) -> None:
        raise RuntimeError("no seeds")

    def close(self) -> None:
        raise RuntimeError("already closed")


def test_what_breaks_around_a_step_fails_one_reexecution_too() -> None:
    make = make_environment(f"{__name__}:Flimsy", lambda text, reference: None)
    first, second = make(), make()
    first.close()
    with pytest.raises(EnvironmentFailure, match="seed raised RuntimeError: no seeds"):
        first.seed(1)  # type: ignore[attr-defined]
    with pytest.raises(EnvironmentFailure, match="cannot be made .OSError: no more connections"):
        second.reset({"wanted": 1})
    assert Flimsy.made == 3


class Dice(EnvironmentKind):
    """Dice with a number of sides: `d6`."""

    usage = "dSIDES"

    @classmethod
    def matches(cls, spec: str) -> bool:
        return spec[:1] == "d" and spec[1:].isdecimal()

    @classmethod
    def prepare(cls, spec: str, grade: Grade, timeout_s: float) -> MakeEnvironment:
        class Die(Counting):
            def reset(self, task: Mapping[str, Any]) -> list[dict[str, str]]:
                return super().reset({"wanted": spec[1:]})

        return lambda: UserEnvironment(Die())


def test_a_kind_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENVIRONMENTS, "_members", dict(ENVIRONMENTS))
    monkeypatch.setattr(ENVIRONMENTS, "_order", dict(ENVIRONMENTS._order))
    ENVIRONMENTS.register("dice")(Dice)
    env = make_environment("d6", lambda text, reference: None)()
    require_safe(env, False, "d6")
    env.reset({})
    assert env.step("6").done and env.score() == 1.0
    with pytest.raises(ConfigError, match="use testbed, replay, dSIDES, command: .* or module:Cl"):
        make_environment("six-sided", lambda text, reference: None)


def test_every_kind_says_what_it_is() -> None:
    assert all((k.__doc__ or "").strip() and k.usage for k in ENVIRONMENTS.values())
