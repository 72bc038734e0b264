"""A chat endpoint as an engine: what is known of it before it is asked; nothing heavy."""

from __future__ import annotations

from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.core.hashing import content_hash
from tracelab.core.item import ModelRef
from tracelab.core.seam import Tokenizer
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES

_CONTEXT = 1 << 20
"""Tokens of the context, where nothing is said: what is too long the endpoint refuses itself."""


@ENGINES.register("chat", order=35)
class HostedChat(EngineKind):
    """A model behind an OpenAI-compatible chat endpoint (`engine.server`), without tokens."""

    name = "chat"
    capabilities = frozenset({"generate", "chat"})
    here = False
    local_weights = False
    served = True

    @classmethod
    def check(cls, config: EngineConfig) -> None:
        """See `EngineKind.check`."""
        if not (config.server.endpoint or "").startswith(("http://", "https://")):
            raise ConfigError(
                'engine.kind = "chat" needs engine.server.endpoint (--endpoint), such as '
                "https://host/v1"
            )

    @classmethod
    def abilities(cls, config: EngineConfig) -> frozenset[str]:
        """See `EngineKind.abilities`."""
        more = {"prefix"} if config.server.continuation != "none" else set()
        return cls.capabilities | more

    @classmethod
    def spec_of(cls, model: str, config: EngineConfig) -> EngineSpec:
        """See `EngineKind.spec_of`; who serves the model of that name is not part of what it is."""
        cls.check(config)
        server = config.server
        revision = content_hash(["chat", server.model or model, server.extra])
        context = config.max_model_len or _CONTEXT
        options = cls.options_of(config, False, context)
        return EngineSpec(cls.name, model, ModelRef(model, revision, "served"), context, options)

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """See `EngineKind.options_of`."""
        return config.server.model_dump(mode="json")

    @classmethod
    def tokenizer(cls, spec: EngineSpec) -> Tokenizer:
        """See `EngineKind.tokenizer`: one of our own, for nobody knows the model's."""
        from tracelab.engines.chat.tokens import RequestTokenizer

        return RequestTokenizer()

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        from tracelab.engines.chat.engine import ChatEngine

        return ChatEngine(spec)
