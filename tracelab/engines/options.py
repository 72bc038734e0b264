"""The config section of engines that are somebody else's server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tracelab.core.options import Section


class ServerConfig(Section):
    """`kind = "openai"`: where the server is, and how it is asked."""

    endpoint: str | None = None
    """Up to and without `/completions`: `http://localhost:8000/v1`."""
    model: str | None = None
    """The server's name for its model; default: `model` of the run, which must be a directory or
    hub id with the same tokenizer."""
    api_key_env: str | None = None
    """Environment variable that holds the server's key."""
    scoring: Literal["prompt_logprobs", "echo"] = "prompt_logprobs"
    """How log-probabilities of a prompt are asked for: vLLM's way, or the first completions
    API's."""
    timeout_s: float = Field(default=120.0, gt=0)
    """For a whole reply."""
    attempts: int = Field(default=5, ge=1)
    """Requests sent at most for one reply; 429, 408 and 5xx are asked again, as are broken
    connections."""
    backoff_s: float = Field(default=1.0, ge=0)
    """First wait before asking again; doubles; `Retry-After` is obeyed."""
    concurrency: int = Field(default=32, ge=1)
    """Requests in flight."""
