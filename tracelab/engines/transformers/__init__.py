"""The transformers library as an engine: what is known of it before it is built; nothing heavy."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES

LARGE = 100 << 20
"""Bytes of weights from which on more than one thread pays."""


@ENGINES.register("transformers", order=20)
class Transformers(EngineKind):
    """The transformers library: the slow reference, and the one that looks inside the model."""

    name = "transformers"
    capabilities = frozenset({"generate", "score", "prefix", "look"})

    @classmethod
    def options_of(cls, config: EngineConfig, gpu: bool, context: int) -> dict[str, Any]:
        """See `EngineKind.options_of`."""
        return {"cpu_threads": config.cpu_threads, "max_batch": config.max_num_seqs}

    @classmethod
    def alone(cls, spec: EngineSpec) -> EngineSpec:
        """See `EngineKind.alone`.

        Scoring computes as many batches side by side as there are processors. Decoding a tiny model
        keeps to one thread: it gains little from a second, and loses much when something else wants
        the processor.
        """
        cores = len(os.sched_getaffinity(0))
        size = sum(f.stat().st_size for f in Path(spec.path).glob("*.safetensors"))
        given = int(spec.options["cpu_threads"])
        threads = max(given, cores) if size >= LARGE else given
        more = {"cpu_threads": threads, "side_by_side": max(given, cores)}
        return replace(spec, options={**spec.options, **more})

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        """See `EngineKind.make`."""
        from tracelab.engines.transformers.engine import TransformersEngine

        return TransformersEngine(spec)
