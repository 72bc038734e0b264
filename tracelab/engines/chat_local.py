"""A tracelab engine as a chat client: judges on a local model, through its own chat template."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from tracelab.core.errors import TracelabError, one_line
from tracelab.core.item import Item, ModelRef, Sampling
from tracelab.core.seam import Tokenizer
from tracelab.core.trace import Turn
from tracelab.engines.chat import Budget, ChatReply, ChatRequest, no_reply

if TYPE_CHECKING:
    from tracelab.run.pool import Pool


class EngineChat:
    """A model of a tracelab engine, through its own chat template.

    Requests that arrive while a batch runs make up the next one, so the engine sees them together.
    """

    def __init__(
        self, pool: Pool, tokenizer: Tokenizer, model: ModelRef, context_length: int,
        budget: Budget | None = None,
    ) -> None:  # fmt: skip
        """Wrap a pool; the caller keeps and closes it."""
        self.name, self.context_length = model.name, context_length
        self.budget, self.failures = budget or Budget(), Counter[str]()
        self._pool, self._tokenizer, self._model = pool, tokenizer, model
        self._waiting: dict[str, tuple[Item, list[asyncio.Future[ChatReply]]]] = {}
        self._worker: asyncio.Task[None] | None = None

    def count(self, text: str) -> int:
        """Tokens of the model's own tokenizer."""
        return len(self._tokenizer.encode_text(text))

    async def ask(self, request: ChatRequest) -> ChatReply:
        """See `ChatClient.ask`."""
        turns = [Turn(role, text) for role, text in request.messages]
        try:
            ids = self._tokenizer.render(turns, "chat")
        except TracelabError as e:
            return no_reply(self.failures, "engine", one_line(e), attempts=0)
        room = self.context_length - len(ids)
        if room < 1:
            why = f"{len(ids)} tokens, but the context holds {self.context_length}"
            return no_reply(self.failures, "overlong", why, attempts=0)
        most = min(request.max_tokens, room)
        if forbidden := self.budget.reserve(len(ids), most):
            return no_reply(self.failures, "budget", forbidden, attempts=0)
        sampling = Sampling(
            temperature=request.temperature, max_tokens=most, json_schema=request.json_schema
        )
        item = Item(self._model, tuple(ids), sampling, seed=request.seed)
        future: asyncio.Future[ChatReply] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(item.key, (item, []))[1].append(future)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work())
        reply = await future
        self.budget.settle(len(ids), most, reply)
        return reply

    async def close(self) -> None:
        """See `ChatClient.close`."""
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)

    async def _work(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting, {}
            items = [item for item, _ in batch.values()]
            why = "the engine gave no answer"
            try:
                await asyncio.to_thread(self._run, items, batch, asyncio.get_running_loop())
            except Exception as e:  # whatever an engine raises: those who wait must hear of it
                why = f"{type(e).__name__}: {one_line(e)}"
            await asyncio.sleep(0)  # replies that the thread has handed over come first
            for _, futures in batch.values():
                if not all(f.done() for f in futures):
                    _resolve(futures, no_reply(self.failures, "engine", why))
            await asyncio.sleep(0)  # let those who got a reply ask again

    def _run(self, items: list[Item], batch: Any, loop: asyncio.AbstractEventLoop) -> None:
        for observations in self._pool.run(items):
            for o in observations:
                if o.error is not None:
                    kind, _, why = o.error.partition(": ")
                    kind = "overlong" if kind == "overlong" else "engine"
                    reply = no_reply(self.failures, kind, why)
                else:
                    reply = ChatReply(o.text, o.finish_reason, o.prefix_tokens, len(o.token_ids))
                loop.call_soon_threadsafe(_resolve, batch[o.key][1], reply)


def _resolve(futures: list[asyncio.Future[ChatReply]], reply: ChatReply) -> None:
    for future in futures:
        if not future.done():
            future.set_result(reply)
