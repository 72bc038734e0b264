"""All engines by name."""

from __future__ import annotations

from dataclasses import dataclass

from tracelab.core.registry import Registry


@dataclass(frozen=True)
class EngineKind:
    """Stub."""

    local_weights: bool


ENGINES: Registry[EngineKind] = Registry("engine", package=None, group="tracelab.engines")
for _name in ("vllm", "transformers", "openai", "scripted"):
    ENGINES._members[_name] = EngineKind(_name in ("vllm", "transformers"))
    ENGINES._order[_name] = 1
