"""A model behind a chat endpoint as an engine: messages and tools in, a message with calls out.

A prompt is a request (`tracelab.engines.chat.tokens`), and what comes back is a text in the one
form that equal content and calls share (`tracelab.engines.chat.request.spelled`); what the server
says besides, its costs first, is in `Observation.endpoint`. A prefix that goes on after the prompt,
into the response, is asked for by continuing the assistant's message, where
`engine.server.continuation` says how the server does that.

Every failure of a request is an error observation: the kinds of `tracelab.engines.http`, of
`tracelab.engines.chat.reading`, `budget` (a cap forbids it; nothing was sent) and `unsupported`.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

from tracelab.core.api_key import api_key
from tracelab.core.errors import ModelLoadError, one_line
from tracelab.core.item import REPEATED, Item, Observation
from tracelab.core.seam import EndpointError, at_endpoint
from tracelab.engines.aio import SideBySide
from tracelab.engines.base import Counters, EngineSpec, failed
from tracelab.engines.chat.client import Budget, HttpChat, SentRequest, given
from tracelab.engines.chat.reading import ChatChoice, ReadReply, read_reply
from tracelab.engines.chat.request import THOUGHT, as_sent, opened, parsed, spelled
from tracelab.engines.chat.tokens import RequestTokenizer, continued, request_in
from tracelab.engines.http import Pace

_CONTINUED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "vllm": ({}, {"continue_final_message": True, "add_generation_prompt": False}),
    "prefix": ({"prefix": True}, {}),
    "partial": ({"partial": True}, {}),
    "prefill": ({}, {}),
}
"""How an assistant's message is continued: what it has besides, and what the request has."""
_OVERLONG = re.compile("context.{0,3}length|context.{0,3}window|too long|too many tokens", re.I)
"""What endpoints say of a prompt that does not fit, with status 400."""
_SEEDS = 1 << 31
"""Seeds are below it: some endpoints take 32 bits."""
_OF_A_MESSAGE = 8
"""Tokens that a template puts around each message, about."""


class ChatEngine:
    """Serves one model through somebody's chat endpoint. Needs one event loop for all calls."""

    def __init__(self, spec: EngineSpec) -> None:
        """Prepare; nothing is sent yet.

        Args:
            spec: `options` as in `tracelab.engines.options.ServerConfig`.

        Raises:
            ConfigError: The environment variable of the key holds none.
        """
        o = spec.options
        self.spec, self.counters = spec, Counters()
        self.concurrency = int(o["concurrency"])
        self.budget = Budget(
            o["max_requests"], o["max_tokens"], o["max_cost"], o["input_price"], o["output_price"]
        )
        self._client = HttpChat(
            str(o["endpoint"]), str(o.get("model") or spec.model.name), spec.context_length,
            api_key(o.get("api_key_env"), "engine.server.api_key_env"),
            float(o["timeout_s"]), int(o["attempts"]), float(o["backoff_s"]), self.concurrency,
            self.budget, pace=Pace(o["requests_per_minute"], o["tokens_per_minute"]),
        )  # fmt: skip
        self._continuation = str(o["continuation"])
        more = {"prefix"} if self._continuation in _CONTINUED else set()
        self.capabilities = frozenset({"generate", "chat", *more})
        self._tokenizer = RequestTokenizer()
        self._begun: asyncio.Semaphore | None = None
        self._halted = 0
        self._answered = False

    async def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.generate`; requests go out in the order in which they were asked."""
        self._begun = self._begun or asyncio.Semaphore(self.concurrency)
        works = [partial(self._guarded, part, self._halted) for i in items for part in self._cut(i)]
        async with aclosing(SideBySide().run(works)) as answers:
            async for found in answers:
                yield found

    async def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        """See `Engine.score`: a chat endpoint has no log-probabilities of given texts."""
        for item in items:
            yield failed(item, "unsupported", "a chat endpoint scores no given text")

    def halt(self) -> None:
        """See `Engine.halt`: what was sent may be paid for, so it is waited for."""
        self._halted += 1

    def close(self) -> None:
        """See `Engine.close`; connections end with the loop that made them (`aclose`)."""

    async def aclose(self) -> None:
        """Release connections. Idempotent."""
        await self._client.close()

    def _cut(self, item: Item) -> Iterator[Item]:
        """Requests of as many choices as may be asked for together."""
        # Choices of one request differ although they share its seed.
        most = 1 if item.intervention == REPEATED else int(self.spec.options["choices"])
        for at in range(0, item.replicates, most):
            yield item.at(item.first_replicate + at, min(most, item.replicates - at))

    async def _guarded(self, item: Item, asked: int) -> list[Observation]:
        assert self._begun is not None
        async with self._begun:
            if asked != self._halted:
                return []
            try:
                return await self._one(item)
            except EndpointError as e:
                return failed(item, e.kind, e.why)
            except ModelLoadError:
                raise
            except Exception as e:  # a reply of any other shape is data
                return failed(item, "malformed", f"{type(e).__name__}: {one_line(e, 200)}")

    async def _one(self, item: Item) -> list[Observation]:
        s = item.sampling
        assert s is not None
        body, begun, thinks = self._body(item)
        texts = len(item.prefix_ids) + _OF_A_MESSAGE * len(body["messages"])
        renamed = self._renamed(body)
        sent = await self._client.send(renamed, texts, s.max_tokens * item.replicates)
        try:
            reply = given(sent)
            self._answered = True
            read = read_reply(reply, item.replicates)
        except EndpointError as e:
            self._refuse_all(e)
            long = e.kind == "refused" and _OVERLONG.search(e.why)
            out = failed(item, "overlong" if long else e.kind, e.why)
            return self._with_costs(item, out, sent, None, texts) if sent.attempts else out
        out = []
        for choice, r in zip(read.choices, item.replicate_range, strict=True):
            if isinstance(choice, EndpointError):
                out += failed(item.at(r, 1), choice.kind, choice.why)
                continue
            text = self._written(choice, begun, thinks)
            out.append(
                Observation(
                    item.key, r, self._tokenizer.encode_text(text), text, choice.finish_reason,
                    prefix_tokens=len(item.prefix_ids),
                )
            )  # fmt: skip
        return self._with_costs(item, out, sent, read, texts)

    def _refuse_all(self, e: EndpointError) -> None:
        """Ask nothing more where nobody is there, or our key or model is none.

        Raises:
            ModelLoadError: That is so, and no request was ever answered.
        """
        where = f"engine.server.endpoint = {self._client.base_url!r}"
        if self._answered:
            return
        if e.kind == "connection" and e.why == "ConnectError":
            raise ModelLoadError(f"{where}: cannot be reached ({e.why})")
        if e.kind == "refused" and e.why[:3] in ("401", "403"):
            named = "engine.server.api_key_env (--api-key-env) names the variable that holds it"
            raise ModelLoadError(f"{where} refuses the key ({e.why[:200]}); {named}")
        if e.kind == "refused" and e.why[:3] == "404":
            raise ModelLoadError(f"{where} has no model {self._client.name!r} ({e.why[:200]})")

    def _body(self, item: Item) -> tuple[dict[str, Any], str, bool]:
        """A request, what the response begins with, and whether it goes on within reasoning."""
        o, s = self.spec.options, item.sampling
        assert s is not None
        if (found := request_in(item.prefix_ids)) is None:
            raise EndpointError("unsupported", "the prefix is no request of a chat")
        text, begun, thinks = found
        messages, tools = parsed(text)
        seed = item.seed_of(0 if item.intervention == REPEATED else item.first_replicate)
        body: dict[str, Any] = {
            "messages": as_sent(messages, tools, o.get("reasoning")),
            "temperature": s.temperature, "top_p": s.top_p, "max_tokens": s.max_tokens,
            "seed": seed % _SEEDS,
        }  # fmt: skip
        body |= {"n": item.replicates} if item.replicates > 1 else {}
        body |= {"top_k": s.top_k} if s.top_k else {}
        body |= {"stop": list(s.stop)} if s.stop else {}
        body |= {"tools": tools} if tools else {}
        if s.json_schema:
            shape = {"name": "reply", "strict": True, "schema": json.loads(s.json_schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        if begun:
            if self._continuation not in _CONTINUED:
                raise EndpointError("unsupported", "engine.server.continuation says none is had")
            beside, more = _CONTINUED[self._continuation]
            said = {"role": "assistant", "content": continued(begun, thinks), **beside}
            body["messages"].append(said)
            body |= more
        return body, begun, thinks

    def _renamed(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request under the endpoint's own names, and with what the config adds."""
        o = self.spec.options
        names = o["rename"]
        said = {names.get(k, k): v for k, v in body.items() if names.get(k, k)}
        return {"model": self._client.name, **said, **o["extra"]}

    def _written(self, choice: ChatChoice, begun: str, thinks: bool) -> str:
        if not (begun or thinks):
            return spelled(choice.message)
        said = str(choice.message["content"])
        if self._continuation != "vllm":  # some repeat what they were given
            whole = continued(begun, thinks)
            said = said.removeprefix(whole) if whole else said
        said = said if begun else opened(said)
        if thinks and choice.reasoning:
            said = f"{choice.reasoning}\n{THOUGHT}\n\n{said}"
        calls = spelled({**choice.message, "content": ""})
        return f"{said}\n{calls}" if calls else said

    def _with_costs(
        self, item: Item, found: Sequence[Observation], sent: SentRequest,
        reply: ReadReply | None, texts: int,
    ) -> list[Observation]:  # fmt: skip
        """Observations of one request; the first carries what all of them cost."""
        usage = sent.usage
        read, wrote = usage.prompt_tokens, usage.output_tokens
        told = read is not None and wrote is not None
        if sent.content is not None and not told:  # it is charged for, whether it says so or not
            read = texts if read is None else read
            wrote = sum(len(o.token_ids) for o in found) if wrote is None else wrote
        self.counters.prompt_tokens += read or 0
        self.counters.cached_tokens += usage.cached_tokens or 0
        self.counters.generated_tokens += wrote or 0
        out = []
        for k, o in enumerate(found):
            paid = (
                (sent.attempts, read or 0, wrote or 0, sent.seconds) if k == 0 else (0, 0, 0, 0.0)
            )
            said: dict[str, Any] = at_endpoint(*paid)
            said |= {"estimated": True} if sent.content is not None and not told else {}
            if reply is not None:
                choice = reply.choices[k]
                named = {"model": reply.model, "fingerprint": reply.fingerprint}
                said |= {key: value for key, value in named.items() if value}
                if isinstance(choice, ChatChoice) and choice.reasoning:
                    said["reasoning"] = choice.reasoning
            out.append(replace(o, endpoint=json.dumps(said), cached_tokens=usage.cached_tokens))
        return out
