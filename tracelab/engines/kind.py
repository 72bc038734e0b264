"""What is known of an engine before it is built: what it can do, what it needs, how to build it.

    @ENGINES.register("mine")
    class Mine(EngineKind):
        '''My server.'''

        name = "mine"
        here = local_weights = False

        @classmethod
        def make(cls, spec: EngineSpec) -> Engine:
            from mine.engine import MyEngine

            return MyEngine(spec)

A subclass imports nothing heavy: that is for `make`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from tracelab.core.errors import ConfigError
from tracelab.core.seam import Tokenizer
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.machine import gpu_count
from tracelab.engines.models import find_model
from tracelab.engines.options import EngineConfig


class EngineKind(ABC):
    """One engine. The first line of a subclass's docstring is what lists say about it."""

    name: ClassVar[str]
    """What it is registered as."""
    capabilities: ClassVar[frozenset[str]] = frozenset({"generate", "score", "prefix"})
    """What its engines can do; see `Engine.capabilities`."""
    here: ClassVar[bool] = True
    """Whether it computes on this machine, or cluster: it gets workers of its own, and GPUs."""
    local_weights: ClassVar[bool] = True
    """Whether it needs the weights of the model here, not only its tokenizer and config."""
    served: ClassVar[bool] = False
    """Whether somebody else serves the model, where `engine.server` says."""

    @classmethod  # noqa: B027
    def check(cls, config: EngineConfig) -> None:
        """Refuse a config.

        Raises:
            ConfigError: It lacks what this engine needs.
        """

    @classmethod
    def abilities(cls, config: EngineConfig) -> frozenset[str]:
        """What an engine of this config can do; see `Engine.capabilities`."""
        return cls.capabilities

    @classmethod
    def spec_of(cls, model: str, config: EngineConfig) -> EngineSpec:
        """Find the model, and say how its engine is built.

        Args:
            model: `testbed`, a directory, or a hub id.
            config: The engine's section.

        Raises:
            ModelLoadError: The model is missing or is not a causal language model.
            ConfigError: The config asks for what this machine does not have.
        """
        cls.check(config)
        trust = config.trust_remote_code
        found = find_model(model, config.dtype, weights=cls.local_weights, trust_code=trust)
        context = config.max_model_len or found.max_context
        if context > found.max_context:
            raise ConfigError(
                f"engine.max_model_len = {context} is more than the model's own "
                f"{found.max_context} positions"
            )
        options = cls.options_of(config, cls.uses_gpu(config), context)
        template = config.template_options
        return EngineSpec(cls.name, found.path, found.ref, context, options, trust, template)

    @classmethod
    def uses_gpu(cls, config: EngineConfig) -> bool:
        """Whether engines of this config compute on GPUs of this machine.

        Raises:
            ConfigError: It asks for one, and there is none.
        """
        if not cls.here or config.device == "cpu":
            return False
        count = gpu_count()
        if config.device == "cuda" and count == 0:
            raise ConfigError("engine.device = 'cuda', but this machine shows no NVIDIA GPU")
        return count > 0

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """`EngineSpec.options`: what of the config it needs to be built, JSON values.

        Args:
            config: The engine's section.
            gpu: See `uses_gpu`.
            context: Tokens of the context window.
        """
        return dict(config.options)

    @classmethod
    def alone(cls, spec: EngineSpec) -> EngineSpec:
        """The spec of an engine that may have all processors of this machine."""
        return spec

    @classmethod
    def tokenizer(cls, spec: EngineSpec) -> Tokenizer:
        """The model's tokenizer.

        Raises:
            ModelLoadError: There is none, or it is broken.
        """
        from tracelab.engines.tokenizer import HFTokenizer

        return HFTokenizer(
            spec.path,
            trust_code=spec.trust_remote_code,
            template_options=spec.template_options,
        )

    @classmethod
    @abstractmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """Build an engine: the slow part, which loads the model.

        Raises:
            ModelLoadError: The model cannot be loaded.
            ImportError: A package that it needs is not installed.
        """
