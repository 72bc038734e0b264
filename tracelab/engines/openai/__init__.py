"""A completions server as an engine: what is known of it before it is asked; nothing heavy."""

from __future__ import annotations

from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig, ServerConfig
from tracelab.engines.registry import ENGINES

_OF_CHATS = (
    "requests_per_minute", "tokens_per_minute", "max_requests", "max_tokens", "max_cost", "choices",
    "continuation", "reasoning", "rename", "extra",
)  # fmt: skip


@ENGINES.register("openai", order=30)
class OpenAI(EngineKind):
    """A completions server that runs elsewhere and returns token ids (`engine.server`)."""

    name = "openai"
    here = False
    local_weights = False
    served = True

    @classmethod
    def check(cls, config: EngineConfig) -> None:
        """See `EngineKind.check`."""
        if not (config.server.endpoint or "").startswith(("http://", "https://")):
            raise ConfigError(
                'engine.kind = "openai" needs engine.server.endpoint, such as '
                "http://localhost:8000/v1"
            )
        plain = ServerConfig()
        for key in _OF_CHATS:
            if getattr(config.server, key) != getattr(plain, key):
                raise ConfigError(f'engine.server.{key} is for engine.kind = "chat" only')

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """See `EngineKind.options_of`."""
        return config.server.model_dump(mode="json")

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        from tracelab.engines.openai.engine import OpenAIEngine

        return OpenAIEngine(spec)
