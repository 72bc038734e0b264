"""Drives judges over runs: many at once, memory for those in flight only.

`tracelab.studies.audit.judge` says what is asked; a chat client answers; nothing is retried here.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.errors import ConfigError
from tracelab.engines.chat import Budget, ChatClient, ChatReply, ChatRequest, HttpChat
from tracelab.studies.audit.judge import PROTOCOLS, JudgeOptions, Opinion

_CALLS_MARGIN = 64  # tokens that a chat template adds
_ENDPOINT_CONTEXT = 32_768


@dataclass(frozen=True, slots=True)
class JudgeSetup:
    """How judges are asked: the options of `tracelab score-judges`, by the same names."""

    model: str | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    engine: str = "vllm"
    context: int | None = None
    reply_tokens: int = 1024
    concurrency: int = 8
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prices: tuple[float, float] = (0.0, 0.0)
    show_reference: bool = False
    seed: int = 0
    timeout_s: float = 120.0
    attempts: int = 5


async def judge(
    episode: Episode,
    method: str,
    client: ChatClient,
    *,
    show_reference: bool = False,
    reply_tokens: int = 1024,
    seed: int = 0,
) -> Opinion:
    """Ask a judge about one run. Never raises for what a model or an endpoint does.

    Args:
        episode: The run.
        method: A name in `PROTOCOLS`.
        client: Who answers.
        show_reference: Show the correct answer, where known.
        reply_tokens: Room for each reply, at most half of the context.
        seed: Sent with each request.
    """
    if not episode.steps:
        return Opinion(status="failed", error="empty: the run has no steps")
    reply_tokens = min(reply_tokens, client.context_length // 2)
    room = client.context_length - reply_tokens - _CALLS_MARGIN
    options = JudgeOptions(client.count, room, show_reference)
    talk = PROTOCOLS[method](episode, options)
    try:
        prompt = next(talk)
        while True:
            request = ChatRequest(
                (("system", prompt.system), ("user", prompt.user)), reply_tokens, seed=seed
            )
            reply: ChatReply = await client.ask(request)
            prompt = talk.send(reply)
    except StopIteration as end:
        opinion: Opinion = end.value
        if opinion.status == "failed" and (opinion.error or "").startswith("overlong"):
            return replace(opinion, status="overlong")
        return opinion


async def judge_all(
    episodes: Iterable[Episode],
    method: str,
    client: ChatClient,
    *,
    in_flight: int = 16,
    show_reference: bool = False,
    reply_tokens: int = 1024,
    seed: int = 0,
) -> AsyncIterator[tuple[Episode, Opinion]]:
    """Judge runs as they are read; yields each with its opinion, in their order.

    At most `in_flight` runs are held, however many there are.
    """
    waiting: list[tuple[Episode, asyncio.Task[Opinion]]] = []
    try:
        for episode in episodes:
            task = asyncio.create_task(
                judge(episode, method, client, show_reference=show_reference,
                      reply_tokens=reply_tokens, seed=seed)
            )  # fmt: skip
            waiting.append((episode, task))
            if len(waiting) >= in_flight:
                first, running = waiting[0]
                opinion = await running
                waiting.pop(0)
                yield first, opinion
        while waiting:
            first, running = waiting[0]
            opinion = await running
            waiting.pop(0)
            yield first, opinion
    finally:
        for _, running in waiting:
            running.cancel()


@contextmanager
def open_client(setup: JudgeSetup) -> Iterator[ChatClient]:
    """A judge's client; a local engine lives as long as the block.

    Raises:
        ConfigError: There is no model, or its key is not set.
        ModelLoadError: A local model cannot be loaded.
    """
    if setup.model is None:
        raise ConfigError("a judge needs a --model")
    budget = Budget(setup.max_requests, setup.max_tokens, setup.max_cost, *setup.prices)
    if setup.endpoint is not None:
        key = None
        if setup.api_key_env is not None:
            key = os.environ.get(setup.api_key_env, "").strip()
            if not key or not key.isascii() or not key.isprintable():
                raise ConfigError(f"--api-key-env: {setup.api_key_env} does not hold a key")
        yield HttpChat(setup.endpoint, setup.model, setup.context or _ENDPOINT_CONTEXT, key,
                       timeout_s=setup.timeout_s, attempts=setup.attempts,
                       concurrency=setup.concurrency, budget=budget)  # fmt: skip
        return
    from tracelab.engines.chat_local import EngineChat
    from tracelab.run.config import parse_config
    from tracelab.run.wiring import wire

    engine: dict[str, Any] = {"kind": setup.engine}
    if setup.context is not None:
        engine["max_model_len"] = setup.context
    config = {"name": "judge", "source": "judge", "model": setup.model, "engine": engine}
    wired = wire(parse_config(config, "judge"))
    pool = wired.make_pool()
    try:
        yield EngineChat(pool, wired.tokenizer, wired.spec.model, wired.spec.context_length, budget)
    finally:
        pool.close()
