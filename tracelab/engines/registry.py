"""The engines; each file or folder of this one registers its own.

Installed packages add theirs through entry points of the group `tracelab.engines`.
"""

from __future__ import annotations

from tracelab.core.errors import ConfigError
from tracelab.core.registry import Registry
from tracelab.engines.base import Engine, EngineSpec
from tracelab.engines.kind import EngineKind

ENGINES: Registry[type[EngineKind]] = Registry(
    "engine", package="tracelab.engines", group="tracelab.engines"
)
"""Every engine by name; `engine.kind` chooses one."""


def build(spec: EngineSpec) -> Engine:
    """Construct an engine here and now (the slow part: loads the model).

    Raises:
        ModelLoadError: The model cannot be loaded.
        ConfigError: There is no such engine, or its package is not installed.
    """
    kind = ENGINES.named(spec.kind, "engine.kind")
    try:
        return kind.make(spec)
    except ImportError as e:
        raise ConfigError(
            f"engine.kind = {spec.kind!r} needs a package that cannot be imported here ({e}); "
            f"`tracelab doctor` says what is installed and how to get the rest"
        ) from e
