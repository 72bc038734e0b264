"""Models that are asked for opinions: at a chat endpoint, or an engine of ours.

`asked` opens such a model, to drive flows of `chat` calls outside any run or in a run's journal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, cast

from tracelab.core.api_key import api_key
from tracelab.core.errors import ConfigError
from tracelab.core.secrets import plain_url
from tracelab.engines.chat.client import Budget, HttpChat
from tracelab.run.answering import Chatting, LocalChat
from tracelab.run.config import parse_config
from tracelab.run.loop import Answering, Loop, Unwatched
from tracelab.run.wiring import wire
from tracelab.store.journal import Journal, Peek

ENDPOINT_CONTEXT = 32_768
"""Tokens that the model of an endpoint is taken to hold, where nothing is said."""


@dataclass(frozen=True, slots=True)
class JudgeSetup:
    """Who is asked, by the names of the options of the commands that ask."""

    model: str | None = None
    endpoint: str | None = None
    api_key_env: str | None = None
    engine: str = "vllm"
    context: int = ENDPOINT_CONTEXT
    concurrency: int = 8
    max_requests: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    input_price: float = 0.0
    output_price: float = 0.0
    timeout_s: float = 120.0
    attempts: int = 5


def setup_of(judge: Any) -> JudgeSetup:
    """From the options of a study's judges, which have the same names."""
    given = {f.name: getattr(judge, f.name) for f in fields(JudgeSetup) if hasattr(judge, f.name)}
    return JudgeSetup(**given)


def budget_of(judge: JudgeSetup) -> Budget:
    """The caps of one session."""
    return Budget(
        judge.max_requests, judge.max_tokens, judge.max_cost, judge.input_price, judge.output_price
    )


def client_of(judge: JudgeSetup, budget: Budget | None = None) -> HttpChat:
    """The client of an endpoint.

    Raises:
        ConfigError: There is no endpoint or model, or the key is not in the environment.
    """
    if judge.endpoint is None or judge.model is None:
        raise ConfigError("a judge at an endpoint needs the endpoint and its name for a model")
    try:
        plain_url(judge.endpoint)
    except ValueError as e:
        raise ConfigError(f"the judge's endpoint: {e}") from None
    key = api_key(judge.api_key_env, "api_key_env")
    return HttpChat(
        judge.endpoint, judge.model, judge.context, key, timeout_s=judge.timeout_s,
        attempts=judge.attempts, concurrency=judge.concurrency,
        budget=budget if budget is not None else budget_of(judge),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class OpenedJudge:
    """Who is asked, once it is known to be there.

    Attributes:
        name: What the model is called.
        who: What identifies it in the content of calls.
        context_length: Tokens it can hold.
        count: Tokens of a text: exact, or a cautious estimate.
        budget: What may be spent, and what was.
        loop: Drives flows of `chat` calls.
    """

    name: str
    who: list[Any]
    context_length: int
    count: Any
    budget: Budget
    loop: Loop


@contextmanager
def asked(setup: JudgeSetup, journal: Journal | None = None) -> Iterator[OpenedJudge]:
    """A model that answers; a local engine lives as long as the block.

    Args:
        setup: Who.
        journal: Keeps what was said; None keeps nothing.

    Raises:
        ConfigError: There is no model, or its key is not set.
        ModelLoadError: A local model cannot be loaded.
    """
    if setup.model is None:
        raise ConfigError("a judge needs a --model")
    budget = budget_of(setup)
    kept = journal if journal is not None else Peek("memory://judges", "judges", empty=True)
    if setup.endpoint is not None:
        client = client_of(setup, budget)
        chatting = Chatting(client)
        try:
            who = [setup.endpoint, setup.model]
            loop = Loop(kept, Unwatched(), {"chat": lambda: chatting})
            yield OpenedJudge(setup.model, who, setup.context, client.count, budget, loop)
        finally:
            chatting.close()
        return
    engine: dict[str, Any] = {"kind": setup.engine}
    if setup.context != ENDPOINT_CONTEXT:
        engine["max_model_len"] = setup.context
    config = {"name": "judge", "source": "judge", "model": setup.model, "engine": engine}
    wired = wire(parse_config(config, "judge"))
    spec, tokenizer = wired.spec, wired.tokenizer
    pool = wired.make_pool()
    try:
        local = LocalChat(tokenizer, spec.model, spec.context_length, budget)
        loop = Loop(kept, Unwatched(), {"generate": lambda: cast(Answering, pool)}, {"chat": local})
        yield OpenedJudge(
            spec.model.name, spec.model.key(), spec.context_length,
            lambda text: len(tokenizer.encode_text(text)), budget, loop,
        )  # fmt: skip
    finally:
        pool.close()
