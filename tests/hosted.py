"""A chat endpoint whose model is the planted policy: fast, billed, and odd where a test wants."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.agent_files import messages_of, reference
from tests.judge_server import Request
from tracelab.core.seam import RecordedRun
from tracelab.testbed.agent_labels import resumed
from tracelab.testbed.agent_policy import act
from tracelab.testbed.agent_runs import THINK, task_of

Odd = Callable[[Request, dict[str, Any]], bool]
"""Answers a request instead of the server, given its reply; False where it does not."""


def write_text_logs(path: Path, runs: Sequence[RecordedRun]) -> Path:
    """Logs of agents that call in their text, as the policy does."""
    lines = [
        {"id": r.name, "task_id": r.name, "messages": messages_of(r, text=True), "success": False,
         "reference": reference(r), "model": "policy"}
        for r in runs
    ]  # fmt: skip
    path.write_text("".join(json.dumps(x) + "\n" for x in lines))
    return path


class PolicyServer:
    """Answers chats about the tasks of some runs; the seed of a request determines the reply.

    Attributes:
        bill: Tokens of replies that were sent whole, as providers bill them.
        served: How often each request was answered, by its text.
    """

    def __init__(self, runs: Sequence[RecordedRun], odd: Odd = lambda r, reply: False) -> None:
        self._tasks = {r.after[0]["content"]: task_of(r.task) for r in runs}
        self.odd, self._lock = odd, threading.Lock()
        self.bill: Counter[str] = Counter()
        self.served: Counter[str] = Counter()

    def __call__(self, r: Request) -> None:
        body = r.body
        messages = body["messages"]
        steps = [m["content"].removeprefix(THINK) for m in messages if m["role"] == "assistant"]
        known = self._tasks.get(messages[0]["content"])
        rng = random.Random(body["seed"])
        if known is None:
            text = " ".join(str(rng.random()) for _ in range(8))
        else:
            text = act(resumed(known, steps)[1], rng)
        usage = {
            "prompt_tokens": sum(3 + len(m["content"].split()) for m in messages),
            "completion_tokens": len(text.split()) + 1,
        }
        choice = {
            "index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop",
        }  # fmt: skip
        reply = {"model": body["model"], "choices": [choice], "usage": usage}
        if self.odd(r, reply):
            return
        with self._lock:
            self.bill.update(usage)
            self.served[json.dumps(body, sort_keys=True)] += 1
        r.send(json.dumps(reply).encode())
