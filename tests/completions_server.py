"""A completions server over an engine of this process, for tests of the `openai` engine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.helpers import answers_of
from tests.judge_server import Request
from tracelab.core.item import Item, Sampling
from tracelab.engines.transformers.engine import TransformersEngine


class Server:
    """A completions API over an engine, in the manner of vLLM 0.32's server."""

    def __init__(self, engine: TransformersEngine) -> None:
        self.engine, self.lock = engine, threading.Lock()
        self.change: Callable[[dict[str, Any]], Any] = lambda reply: reply

    def __call__(self, r: Request) -> None:
        body, ids = r.body, tuple(r.body["prompt"])
        choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length"}
        with self.lock:
            if body.get("echo") or "prompt_logprobs" in body:
                item = Item(self.engine.spec.model, ids[:1], target_ids=ids[1:])
                row = answers_of(self.engine, item)[0].token_logprobs
                assert row is not None
                values = [None, *row]
                choice["prompt_logprobs"] = [
                    None if v is None else {str(t): {"logprob": v, "rank": 1, "decoded_token": "x"}}
                    for t, v in zip(ids, values, strict=True)
                ]
                if body.get("echo"):
                    del choice["prompt_logprobs"]
                    names = [f"token_id:{t}" for t in ids]
                    choice["logprobs"] = {"tokens": names, "token_logprobs": values}
            else:
                sampling = Sampling(
                    temperature=body["temperature"], max_tokens=body["max_tokens"],
                    stop=tuple(body.get("stop", ())), logprobs="logprobs" in body,
                )  # fmt: skip
                item = Item(self.engine.spec.model, ids, sampling, seed=body["seed"])
                (o,) = answers_of(self.engine, item)
                choice |= {"token_ids": list(o.token_ids), "text": o.text,
                           "finish_reason": o.finish_reason}  # fmt: skip
                if o.token_logprobs is not None:
                    choice["logprobs"] = {"token_logprobs": list(o.token_logprobs)}
        usage = {"prompt_tokens": len(ids), "prompt_tokens_details": {"cached_tokens": 0}}
        reply = self.change({"choices": [choice], "usage": usage})
        r.send(reply if isinstance(reply, bytes) else json.dumps(reply).encode())
