"""Servers over an engine of this process: completions for `openai`, chats for `chat`."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from tests.helpers import answers_of
from tests.judge_server import Request
from tracelab.core.item import Item, Sampling
from tracelab.core.seam import Tokenizer
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


class ChatServer:
    """A chat API over an engine and its chat template, in the manner of vLLM 0.32's server.

    `change` may spoil a reply; tokens are counted as they are billed.
    """

    def __init__(self, engine: TransformersEngine, tokenizer: Tokenizer) -> None:
        self.engine, self.tokenizer, self.lock = engine, tokenizer, threading.Lock()
        self.change: Callable[[Request, dict[str, Any]], Any] = lambda r, reply: reply
        self.prompt_tokens = self.output_tokens = 0

    def __call__(self, r: Request) -> None:
        body, n = r.body, r.body.get("n", 1)
        ids = self._prompt(body)
        context = self.engine.spec.context_length
        if len(ids) >= context:
            said = f"This model's maximum context length is {context} tokens, not {len(ids)}."
            r.send(json.dumps({"error": {"message": said, "code": 400}}).encode(), 400)
            return
        sampling = Sampling(
            temperature=body["temperature"], max_tokens=body["max_tokens"],
            stop=tuple(body.get("stop", ())),
        )  # fmt: skip
        item = Item(self.engine.spec.model, ids, sampling, seed=body["seed"], replicates=n)
        with self.lock:
            found = answers_of(self.engine, item)
        usage = {
            "prompt_tokens": len(ids),
            "completion_tokens": sum(len(o.token_ids) for o in found),
        }
        choices = [
            {"index": k, "message": {"role": "assistant", "content": o.text},
             "finish_reason": o.finish_reason}
            for k, o in enumerate(found)
        ]  # fmt: skip
        reply = self.change(r, {"model": body["model"], "choices": choices, "usage": usage})
        if reply is not None:
            with self.lock:
                self.prompt_tokens += usage["prompt_tokens"]
                self.output_tokens += usage["completion_tokens"]
            r.send(reply if isinstance(reply, bytes) else json.dumps(reply).encode())

    def _prompt(self, body: dict[str, Any]) -> tuple[int, ...]:
        messages = [{**m, "content": m.get("content") or ""} for m in body["messages"]]
        ask = body.get("add_generation_prompt", True)
        text = self.tokenizer.chat_text(messages, "chat", ask=ask, tools=body.get("tools", ()))
        if body.get("continue_final_message"):
            said = messages[-1]["content"]
            text = text[: text.rindex(said) + len(said)]
        return self.tokenizer.encode_prompt(text, "chat")
