"""A completions server as an engine: what is known of it before it is asked; nothing heavy."""

from __future__ import annotations

from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES


@ENGINES.register("openai", order=30)
class OpenAI(EngineKind):
    """A completions server that runs elsewhere and returns token ids (`engine.server`)."""

    name = "openai"
    here = False
    local_weights = False

    @classmethod
    def check(cls, config: EngineConfig) -> None:
        """See `EngineKind.check`."""
        if not (config.server.endpoint or "").startswith(("http://", "https://")):
            raise ConfigError(
                'engine.kind = "openai" needs engine.server.endpoint, such as '
                "http://localhost:8000/v1"
            )

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """See `EngineKind.options_of`."""
        return config.server.model_dump(mode="json")

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        from tracelab.engines.openai.engine import OpenAIEngine

        return OpenAIEngine(spec)
