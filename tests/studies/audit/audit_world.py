"""The planted policy as a model: audits without an engine, on episodes whose causes are known."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.testbed import tokenizer
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import MakeEnvironment
from tracelab.core.trace import Rendering
from tracelab.environments.testbed import THINK, MarketWorld
from tracelab.run.config import AuditConfig
from tracelab.studies.audit.rerun import Chat, Rerunner
from tracelab.studies.audit.subject import Audit
from tracelab.testbed.agent_labels import resumed
from tracelab.testbed.agent_policy import act
from tracelab.testbed.agent_world import AgentTask, task

MODEL = ModelRef("policy", "planted", "float64")


class TextTokens:
    """One token a character, and the testbed's chat template."""

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        return tokenizer.render([dict(m) for m in messages], add_generation_prompt=ask)

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        return self.encode_text(text)

    def encode_text(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))


class Policy:
    """Writes the next step of any chat of known tasks, as `agent_policy.act` would.

    Attributes:
        calls: Engine calls so far.
        drawn: Every (key, replicate) ever asked, in order.
    """

    def __init__(self, tasks: Sequence[AgentTask]) -> None:
        self._tasks = {self._question(t.messages[0]["content"], t): t for t in tasks}
        self.calls = 0
        self.drawn: list[tuple[str, int]] = []

    @staticmethod
    def _question(text: str, t: AgentTask) -> str:
        return text

    def observe(
        self, name: str, items: Sequence[Item], on: Callable[[list[Observation]], None]
    ) -> None:
        self.calls += 1
        for item in items:
            on([self._answer(item, r) for r in item.replicate_range])

    def _answer(self, item: Item, replicate: int) -> Observation:
        if item.kind == "score":
            return Observation(item.key, replicate, finish_reason="error", error="none: no scores")
        self.drawn.append((item.key, replicate))
        turns = "".join(map(chr, item.prefix_ids)).split(tokenizer.START)[1:]
        parts = [t.removesuffix(f"{tokenizer.END}\n").partition("\n") for t in turns]
        steps = [c.removeprefix(THINK) for role, _, c in parts[:-1] if role == "assistant"]
        env, progress = resumed(self._tasks[parts[0][2]], steps)
        # What the tools really said, where that is another thing than the task's own notes.
        text = act(progress, random.Random(f"{item.key}/{replicate}"))
        return Observation(item.key, replicate, (1,) * 20, text, prefix_tokens=50)


def world(n: int, seed: int) -> list[dict[str, Any]]:
    """Tasks whose questions all differ, so that a chat says which task it belongs to."""
    seen: set[str] = set()
    found = []
    for i in range(20 * n):
        asked = task("train", seed, i)
        if (text := asked.messages[0]["content"]) not in seen:
            seen.add(text)
            found.append({"split": "train", "seed": seed, "index": i})
        if len(found) == n:
            break
    return found


def auditor(
    tasks: Sequence[Mapping[str, Any]],
    config: AuditConfig | None = None,
    make: MakeEnvironment = MarketWorld,
    **more: Any,
) -> tuple[Audit, Policy]:
    """An audit whose model is the planted policy."""
    policy = Policy([task(t["split"], t["seed"], t["index"]) for t in tasks])
    rerunner = Rerunner(
        make, Chat(TextTokens()), MODEL, Sampling(max_tokens=64), 0, policy.observe, **more
    )
    return Audit(config or AuditConfig(), rerunner), policy
