"""Failed runs of the testbed's agents, written as each kind of agent log would have them.

`Market` is the environment that a user would write to re-execute them: it knows a task by the id
in the log, and nothing else.
"""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracelab.core.seam import RecordedRun, State
from tracelab.environments.testbed import MarketWorld
from tracelab.testbed.agent_labels import play
from tracelab.testbed.agent_runs import recorded
from tracelab.testbed.agent_world import CALL, task

_TASK = re.compile(r"agent-(\w+)-(\d+)-(\d+)")


def task_data(task_id: str) -> dict[str, Any]:
    """What `MarketWorld` needs to begin a task."""
    found = _TASK.fullmatch(task_id)
    assert found is not None
    return {"split": found[1], "seed": int(found[2]), "index": int(found[3])}


class Market:
    """The testbed's world, as a user's class for logs of any format."""

    side_effects = False

    def __init__(self) -> None:
        self._world = MarketWorld()

    def reset(self, task: Mapping[str, Any]) -> State:
        return self._world.reset(task_data(task["task_id"]))

    def restore(self, run: RecordedRun, t: int) -> State:
        self.reset(run.task)
        for action in run.actions[:t]:
            self._world.step(action)
        return State(run.before[t])

    def step(self, action: str) -> State:
        return self._world.step(action)

    def score(self) -> float:
        return self._world.score()


def failed_runs(n: int, seed: int = 5, split: str = "train") -> list[RecordedRun]:
    """Failures of the planted policy, in order of their tasks."""
    runs = []
    for i in range(100 * n):
        data = task_data(f"agent-{split}-{seed}-{i}")
        actions = play(task(split, seed, i), random.Random(f"{seed}/{i}"))  # type: ignore[arg-type]
        env = MarketWorld()
        state, before = env.reset(data), []
        for action in actions:
            before.append(state.messages)
            state = env.step(action)
        if env.score() == 0.0:
            name = f"agent-{split}-{seed}-{i}"
            runs.append(recorded(name, data, actions, before, state, 0.0))
        if len(runs) == n:
            break
    return runs


def reference(run: RecordedRun) -> str:
    return task(**dict(run.task)).reference


def _call(action: str, i: int) -> dict[str, Any] | None:
    """A tool call as the APIs have it, and the text before it."""
    if (found := CALL.search(action)) is None:
        return None
    name, _, rest = found[1].partition(" ")
    keys = ("subject",) if name == "lookup" else ("x", "operation", "y")
    arguments = {k: int(v) if v.isdigit() else v for k, v in zip(keys, rest.split(), strict=True)}
    return {"id": f"c{i}", "name": name, "arguments": arguments, "text": action[: found.start()]}


def messages_of(run: RecordedRun, *, text: bool = False) -> list[dict[str, Any]]:
    """The whole chat with tool calls as the OpenAI API has them (arguments are JSON text)."""
    out: list[dict[str, Any]] = []
    last = None
    for i, m in enumerate(run.after):
        call = _call(m["content"], i) if m["role"] == "assistant" and not text else None
        message: dict[str, Any] = dict(m)
        if call is not None:
            message["content"] = call["text"]
            message["tool_calls"] = [
                {"id": call["id"], "type": "function", "function": {
                    "name": call["name"], "arguments": json.dumps(call["arguments"])}}
            ]  # fmt: skip
        elif m["role"] == "tool" and last is not None:
            message["tool_call_id"] = last["id"]
        last = call if m["role"] == "assistant" else last
        out.append(message)
    return out


def write_openai(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "runs.jsonl"
    lines = [
        {"id": r.name, "task_id": r.name, "messages": messages_of(r), "success": False,
         "reference": reference(r), "model": "testbed", "version": f"v{i % 2}"}
        for i, r in enumerate(runs)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


def _value(v: Any) -> dict[str, Any]:
    if isinstance(v, bool):
        return {"boolValue": v}
    return {"intValue": str(v)} if isinstance(v, int) else {"stringValue": v}


def _span(trace: str, i: int, name: str, parent: str | None, a: Mapping[str, Any]) -> Any:
    start = 1_700_000_000_000_000_000 + i * 1000
    made = {
        "traceId": trace, "spanId": f"{i:016x}", "name": name, "startTimeUnixNano": str(start),
        "endTimeUnixNano": str(start + 500),
        "attributes": [{"key": k, "value": _value(v)} for k, v in a.items()],
    }  # fmt: skip
    return made if parent is None else {**made, "parentSpanId": parent}


def _export(spans: Sequence[Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.version", "value": _value("v1")}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}


def _parts(m: Mapping[str, Any]) -> dict[str, Any]:
    """A message in the parts of the GenAI conventions."""
    if m["role"] == "tool":
        part = {"type": "tool_call_response", "id": m["tool_call_id"], "response": m["content"]}
        return {"role": "tool", "parts": [part]}
    parts: list[dict[str, Any]] = [{"type": "text", "content": m["content"]}]
    for c in m.get("tool_calls", ()):
        f = c["function"]
        parts.append({"type": "tool_call", "id": c["id"], "name": f["name"],
                      "arguments": json.loads(f["arguments"])})  # fmt: skip
    return {"role": m["role"], "parts": parts}


def _genai(chat: list[dict[str, Any]], agent: str, k: int) -> dict[str, Any]:
    """The span of the model call that wrote message k."""
    return {
        "gen_ai.operation.name": "chat", "gen_ai.agent.name": agent,
        "gen_ai.request.model": "testbed",
        "gen_ai.input.messages": json.dumps([_parts(m) for m in chat[:k]]),
        "gen_ai.output.messages": json.dumps([_parts(chat[k])]),
    }  # fmt: skip


def _openinference(chat: list[dict[str, Any]], agent: str, k: int) -> dict[str, Any]:
    out: dict[str, Any] = {"openinference.span.kind": "LLM", "llm.model_name": "testbed",
                           "agent.name": agent}  # fmt: skip
    places = [(f"llm.input_messages.{i}", m) for i, m in enumerate(chat[:k])]
    for prefix, m in [*places, ("llm.output_messages.0", chat[k])]:
        out[f"{prefix}.message.role"] = m["role"]
        out[f"{prefix}.message.content"] = m["content"]
        if "tool_call_id" in m:
            out[f"{prefix}.message.tool_call_id"] = m["tool_call_id"]
        for j, c in enumerate(m.get("tool_calls", ())):
            at = f"{prefix}.message.tool_calls.{j}.tool_call"
            out[f"{at}.id"] = c["id"]
            out[f"{at}.function.name"] = c["function"]["name"]
            out[f"{at}.function.arguments"] = c["function"]["arguments"]
    return out


def _spans(run: RecordedRun, trace: str, llm: Callable[..., dict[str, Any]]) -> list[Any]:
    chat = messages_of(run)
    genai = llm is _genai
    root = {"gen_ai.operation.name": "invoke_agent", "gen_ai.evaluation.score.label": "fail",
            "gen_ai.evaluation.score.value": 0, "task.id": run.name}  # fmt: skip
    spans = [_span(trace, 1, "run", None, root)]
    agents = iter(run.agents)
    for k, m in enumerate(chat):
        if m["role"] == "assistant":
            agent = next(agents)
            spans.append(_span(trace, k + 2, "chat", f"{1:016x}", llm(chat, str(agent), k)))
        elif m["role"] == "tool" and genai:
            call = chat[k - 1]["tool_calls"][0]
            a = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": call["id"],
                 "gen_ai.tool.name": call["function"]["name"],
                 "gen_ai.tool.call.arguments": call["function"]["arguments"],
                 "gen_ai.tool.call.result": m["content"]}  # fmt: skip
            spans.append(_span(trace, k + 2, "tool", f"{1:016x}", a))
    return spans


def write_otel(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "genai.jsonl"
    lines = [_export(_spans(r, f"{i:032x}", _genai)) for i, r in enumerate(runs)]
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


def write_openinference(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "openinference.json"
    spans = [s for i, r in enumerate(runs) for s in _spans(r, f"{i + 99:032x}", _openinference)]
    path.write_text(json.dumps(_export(spans)))
    return path


def write_inspect(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "log.eval"
    spec = {"task": "market", "task_version": 1, "model": "testbed"}
    files: dict[str, Any] = {"header.json": {"version": 2, "status": "success", "eval": spec}}
    for r in runs:
        chat = []
        for i, m in enumerate(messages_of(r)):
            flat = {**m, "id": f"m{i}"}
            if "tool_calls" in m:
                flat["tool_calls"] = [
                    {"id": c["id"], "type": "function", "function": c["function"]["name"],
                     "arguments": json.loads(c["function"]["arguments"])} for c in m["tool_calls"]
                ]  # fmt: skip
            chat.append(flat)
        events: list[dict[str, Any]] = []
        agents = iter(r.agents)
        for k, m in enumerate(chat):
            if m["role"] == "assistant":
                agent = next(agents)
                events.append({"event": "span_begin", "id": f"s{k}", "type": "agent",
                               "name": agent})  # fmt: skip
                written = {"choices": [{"message": m}]}
                events.append({"event": "model", "model": "testbed", "input": chat[:k],
                               "span_id": f"s{k}", "output": written})  # fmt: skip
            elif m["role"] == "tool":
                call = chat[k - 1]["tool_calls"][0]
                events.append({"event": "tool", "id": call["id"], "function": call["function"],
                               "arguments": call["arguments"], "result": m["content"]})  # fmt: skip
        files[f"samples/{r.name}_epoch_1.json"] = {
            "id": r.name, "epoch": 1, "input": chat[0]["content"], "target": reference(r),
            "messages": chat, "events": events, "scores": {"match": {"value": "I"}},
        }  # fmt: skip
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name, json.dumps(value))
    return path


def write_atif(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "atif.jsonl"
    lines = []
    for r in runs:
        steps: list[dict[str, Any]] = []
        for m in messages_of(r):
            step: dict[str, Any] = {"step_id": len(steps) + 1, "message": m["content"]}
            if m["role"] == "tool":
                steps[-1]["observation"] = {"results": [
                    {"source_call_id": m["tool_call_id"], "content": m["content"]}]}  # fmt: skip
                continue
            step["source"] = "agent" if m["role"] == "assistant" else m["role"]
            if "tool_calls" in m:
                step["tool_calls"] = [
                    {"tool_call_id": c["id"], "function_name": c["function"]["name"],
                     "arguments": json.loads(c["function"]["arguments"])} for c in m["tool_calls"]
                ]  # fmt: skip
            steps.append(step)
        lines.append({
            "schema_version": "ATIF-v1.7", "trajectory_id": r.name, "steps": steps,
            "agent": {"name": "market", "version": "v1", "model_name": "testbed"},
            "extra": {"task_id": r.name, "reward": 0.0, "reference": reference(r)},
        })  # fmt: skip
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


def write_who_and_when(folder: Path, runs: Sequence[RecordedRun]) -> Path:
    path = folder / "who_and_when"
    path.mkdir(parents=True)
    for i, r in enumerate(runs):
        history = [
            {"role": m["role"] if m["role"] != "tool" else "user",
             "name": m.get("name") or ("Computer_terminal" if m["role"] == "tool" else "Manager"),
             "content": m["content"]}
            for m in r.after
        ]  # fmt: skip
        record = {
            "is_correct": False, "question": r.after[0]["content"], "question_ID": r.name,
            "ground_truth": reference(r), "history": history, "mistake_agent": "worker",
            "mistake_step": "3", "mistake_reason": "unknown",
        }  # fmt: skip
        (path / f"{i}.json").write_text(json.dumps(record))
    return path


WRITERS: dict[str, Callable[[Path, Sequence[RecordedRun]], Path]] = {
    "openai-chat": write_openai,
    "otel": write_otel,
    "openinference": write_openinference,
    "inspect": write_inspect,
    "atif": write_atif,
    "who-and-when": write_who_and_when,
}
