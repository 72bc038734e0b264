"""Who answers what is not a token request: a model's inside, chat endpoints, environments.

Each is a queue as the loop knows it (`tracelab.run.loop.Answering`), or, for a chat with the run's
own model, a flow of its own whose requests the engines answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import cast

from tracelab.core.errors import PlanError, one_line
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import AnyItem, Call, Item, ModelRef, Observation, Sampling
from tracelab.core.seam import EnvironmentFailure, Tokenizer, at_endpoint
from tracelab.core.trace import Role, Turn
from tracelab.engines import aio
from tracelab.engines.base import WhiteBox
from tracelab.engines.chat.client import Budget, ChatClient, ChatReply, ChatRequest


def _failed(call: Call, error: str) -> list[Observation]:
    return [
        Observation(call.key, r, finish_reason="error", error=error) for r in call.replicate_range
    ]


class Looking:
    """Looks into a model in this process, one request after the other."""

    def __init__(self, engine: WhiteBox, close: Callable[[], None]) -> None:
        """Take an engine that can `look`; `close` lets go of it."""
        self._engine = engine
        self.close = close
        self._calls: deque[Call] = deque()

    @property
    def owed(self) -> int:
        """See `Answering.owed`."""
        return sum(c.replicates for c in self._calls)

    def submit(self, items: Sequence[AnyItem]) -> None:
        """See `Answering.submit`."""
        self._calls.extend(cast(Sequence[Call], items))

    def ready(self, timeout: float) -> list[Observation]:
        """See `Answering.ready`; computes the next, however long it takes."""
        return aio.run(self._engine.look([self._calls.popleft()])) if self._calls else []

    def cancel(self) -> None:
        """See `Answering.cancel`."""
        self._calls.clear()


class Acting:
    """Takes steps of environments: `Call.payload` does it, and keeps what it needs of it."""

    def __init__(self, workers: int) -> None:
        """Use so many threads; one works in the loop's own."""
        self._calls: deque[Call] = deque()
        self._done: queue.SimpleQueue[list[Observation]] = queue.SimpleQueue()
        self._ask: queue.SimpleQueue[bool] = queue.SimpleQueue()
        # They end with the process: a step that hangs keeps nobody from stopping at once.
        self._threads = [
            threading.Thread(target=self._work, name=f"tracelab-act-{n}", daemon=True)
            for n in range(workers if workers > 1 else 0)
        ]
        for thread in self._threads:
            thread.start()
        self.owed = 0

    def submit(self, items: Sequence[AnyItem]) -> None:
        """See `Answering.submit`."""
        calls = cast(Sequence[Call], items)
        self.owed += sum(c.replicates for c in calls)
        self._calls.extend(calls)
        if self._threads:
            for _ in calls:
                self._ask.put(True)

    def _work(self) -> None:
        while self._ask.get():
            try:
                call = self._calls.popleft()
            except IndexError:  # cancelled
                continue
            self._done.put(_act(call))

    def ready(self, timeout: float) -> list[Observation]:
        """See `Answering.ready`; without threads it takes the next step, however long it takes."""
        found: list[Observation] = []
        if self._threads:
            with contextlib.suppress(queue.Empty):
                found += self._done.get(timeout=timeout)
                while True:
                    found += self._done.get_nowait()
        elif self._calls:
            found += _act(self._calls.popleft())
        self.owed -= len(found)
        return found

    def cancel(self) -> None:
        """See `Answering.cancel`."""
        while self._calls:
            with contextlib.suppress(IndexError):  # a thread was faster
                self.owed -= self._calls.popleft().replicates

    def close(self) -> None:
        """Take no more steps."""
        self._calls.clear()
        for _ in self._threads:
            self._ask.put(False)


def _act(call: Call) -> list[Observation]:
    try:
        call.payload()
    except EnvironmentFailure as e:
        return _failed(call, f"environment: {one_line(e)}")
    except Exception as e:  # user code: whatever it raises ends its re-execution, not the run
        return _failed(call, f"environment: {type(e).__name__}: {one_line(e)}")
    return [Observation.of(call.key, r, None) for r in call.replicate_range]


class Chatting:
    """Asks a chat endpoint, many requests at once, in a thread with a loop of its own."""

    def __init__(self, client: ChatClient) -> None:
        """Take a client; it is closed here."""
        self._client = client
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._done: queue.SimpleQueue[Observation | None] = queue.SimpleQueue()
        self._tasks: dict[Future[Observation], None] = {}  # in the order in which they were asked
        self.owed = 0

    def submit(self, items: Sequence[AnyItem]) -> None:
        """See `Answering.submit`."""
        for call in cast(Sequence[Call], items):
            for r in call.replicate_range:
                self.owed += 1
                asking = asyncio.run_coroutine_threadsafe(self._ask(call, r), self._loop)
                self._tasks[asking] = None
                asking.add_done_callback(self._ended)

    def _ended(self, asking: Future[Observation]) -> None:
        self._tasks.pop(asking, None)
        self._done.put(None if asking.cancelled() else asking.result())

    def ready(self, timeout: float) -> list[Observation]:
        """See `Answering.ready`."""
        ended: list[Observation | None] = []
        with contextlib.suppress(queue.Empty):
            ended.append(self._done.get(timeout=timeout))
            while True:
                ended.append(self._done.get_nowait())
        self.owed -= len(ended)
        return [o for o in ended if o is not None]

    def cancel(self) -> None:
        """See `Answering.cancel`: what was sent may be paid for, so it is waited for."""
        for asking in list(self._tasks)[self._client.concurrency :]:  # no other was sent
            asking.cancel()

    def close(self) -> None:
        """Drop what is in flight."""
        for task in list(self._tasks):
            task.cancel()
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    async def _ask(self, call: Call, replicate: int) -> Observation:
        try:
            reply = await self._client.ask(request_of(call))
            return _paid(_answer(call, replicate, reply), reply)
        except Exception as e:  # a fault of ours must not leave the loop waiting
            why = f"engine: {type(e).__name__}: {one_line(e)}"
            return _failed(call.at(replicate, 1), why)[0]


def request_of(call: Call) -> ChatRequest:
    """What a `chat` call asks."""
    c = call.content
    return ChatRequest(
        tuple((cast(Role, role), text) for role, text in c["messages"]),
        max_tokens=c["max_tokens"],
        temperature=c.get("temperature", 0.0),
        seed=c.get("seed", 0),
        json_schema=c.get("json_schema", ""),
    )


def _answer(call: Call, replicate: int, reply: ChatReply) -> Observation:
    if reply.text is None:
        return _failed(call.at(replicate, 1), reply.error or "engine: no reply")[0]
    return Observation.of(
        call.key,
        replicate,
        {
            "text": reply.text,
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "output_tokens": reply.output_tokens,
        },
    )


def _paid(o: Observation, reply: ChatReply) -> Observation:
    """The answer of an endpoint with what it cost, also where there is none."""
    cost = at_endpoint(reply.attempts, reply.prompt_tokens, reply.output_tokens, reply.seconds)
    if o.error is None:
        return Observation.of(o.key, o.replicate, {**o.value, **cost})
    return replace(o, text=json.dumps(cost)) if reply.attempts else o


class LocalChat:
    """Answers `chat` calls by the run's own model, through its chat template."""

    def __init__(
        self, tokenizer: Tokenizer, model: ModelRef, context_length: int, budget: Budget
    ) -> None:
        """Keep what prompts are made of, and the caps."""
        self._tokenizer, self._model = tokenizer, model
        self._context, self._budget = context_length, budget

    def __call__(self, call: Call) -> Flow[Observation]:
        """A flow that ends in the answer."""
        request = request_of(call)
        replicate = call.first_replicate

        def refused(kind: str, why: str) -> Observation:
            return _failed(call, f"{kind}: {why}")[0]

        try:
            turns = [Turn(role, text) for role, text in request.messages]
            ids = self._tokenizer.render(turns, "chat")
        except PlanError as e:
            return refused("engine", one_line(e))
        room = self._context - len(ids)
        if room < 1:
            return refused("overlong", f"{len(ids)} tokens, but the context holds {self._context}")
        most = min(request.max_tokens, room)
        held = self._budget.reserve(len(ids), most)
        if isinstance(held, str):
            return refused("budget", held)
        sampling = Sampling(
            temperature=request.temperature, max_tokens=most, json_schema=request.json_schema
        )
        item = Item(self._model, tuple(ids), sampling, seed=request.seed).at(replicate, 1)
        heard: list[Observation] = []
        yield Ask("judges", [item], heard.extend)
        o = heard[0]
        if o.error is not None:
            kind, _, why = o.error.partition(": ")
            reply = ChatReply(
                None, error=f"{'overlong' if kind == 'overlong' else 'engine'}: {why}"
            )
        else:
            reply = ChatReply(o.text, o.finish_reason, o.prefix_tokens, len(o.token_ids))
        self._budget.settle(held, reply.prompt_tokens or 0, reply.output_tokens or 0)
        return _answer(call, replicate, reply)
