"""The client of judges at a chat endpoint, from the options that name it."""

from __future__ import annotations

import os
from typing import Protocol

from tracelab.core.errors import ConfigError
from tracelab.engines.chat import Budget, HttpChat


class Judging(Protocol):
    """Options of judges; see `tracelab.studies.audit.options.JudgingConfig`."""

    endpoint: str | None
    model: str | None
    api_key_env: str | None
    context: int
    concurrency: int
    timeout_s: float
    attempts: int
    max_requests: int | None
    max_tokens: int | None
    max_cost: float | None
    input_price: float
    output_price: float


def budget_of(judge: Judging) -> Budget:
    """The caps of one session."""
    return Budget(
        judge.max_requests, judge.max_tokens, judge.max_cost, judge.input_price, judge.output_price
    )


def client_of(judge: Judging) -> HttpChat:
    """The endpoint's client.

    Raises:
        ConfigError: There is no endpoint or model, or the key is not in the environment.
    """
    if judge.endpoint is None or judge.model is None:
        raise ConfigError("a judge at an endpoint needs the endpoint and its name for a model")
    key = None
    if judge.api_key_env is not None:
        key = os.environ.get(judge.api_key_env, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise ConfigError(f"the environment variable {judge.api_key_env} does not hold a key")
    return HttpChat(
        judge.endpoint, judge.model, judge.context, key, timeout_s=judge.timeout_s,
        attempts=judge.attempts, concurrency=judge.concurrency, budget=budget_of(judge),
    )  # fmt: skip
