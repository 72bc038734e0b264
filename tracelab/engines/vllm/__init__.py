"""vLLM as an engine: here is what is known of it before it is built; imports nothing heavy."""

from __future__ import annotations

from typing import Any

from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES


@ENGINES.register("vllm", order=10)
class Vllm(EngineKind):
    """vLLM, for real runs: continuous batching and a prefix cache; GPU or CPU."""

    name = "vllm"

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """See `EngineKind.options_of`."""
        common = {
            "max_num_seqs": config.max_num_seqs,
            "tensor_parallel_size": config.tensor_parallel,
            "max_num_batched_tokens": max(8192, context),
        }
        if gpu:
            return {**common, "gpu_memory_utilization": config.gpu_memory_utilization}
        return {
            **common,
            "cpu": True,
            "kv_cache_gib": config.kv_cache_gib,
            "cpu_threads": config.cpu_threads,
        }

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        from tracelab.engines.vllm.engine import VllmEngine

        return VllmEngine(spec)
