"""Serve a class as a command: `python -m tracelab.environments.serve module:Class`.

The other end of `command.py`; what the class prints goes to stderr.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from tracelab.core.outside import DEPTH, decode
from tracelab.core.seam import EnvironmentFailure, RecordedRun
from tracelab.environments.user import UserEnvironment, load_class


def answer(environment: UserEnvironment, request: Mapping[str, Any]) -> dict[str, Any]:
    """Answer one request."""
    op = request.get("op")
    if op == "hello":
        return {"side_effects": environment.side_effects}
    if op == "score":
        return {"score": environment.score()}
    if op == "seed":
        if hasattr(environment, "seed"):
            environment.seed(request["n"])
        return {}
    if op == "reset":
        return asdict(environment.reset(request["task"]))
    if op == "restore":
        return asdict(environment.restore(RecordedRun.of(request["run"]), request["t"]))
    if op == "step":
        return asdict(environment.step(request["action"]))
    return {"error": f"unknown op {op!r}"}


def main() -> None:
    """Read requests from stdin until it ends."""
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    environment = UserEnvironment(load_class(sys.argv[1])())
    for line in sys.stdin.buffer:
        request = decode(line, depth=2 * DEPTH)
        try:
            reply = answer(environment, request)
        except EnvironmentFailure as e:
            reply = {"error": str(e)}
        except Exception as e:
            reply = {"error": f"{type(e).__name__}: {e}"}
        replies.write(json.dumps({**reply, "id": request.get("id")}, default=list).encode() + b"\n")


if __name__ == "__main__":
    main()
