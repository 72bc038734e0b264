"""Keys of endpoints: named in configs by an environment variable, never written there."""

from __future__ import annotations

import os

from tracelab.core.errors import ConfigError


def api_key(variable: str | None, field: str) -> str | None:
    """The key that an environment variable holds; None without a variable.

    Args:
        variable: Its name.
        field: What named it, for the message: `engine.server.api_key_env`.

    Raises:
        ConfigError: It is not set, or holds something else than a key.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"{field}: the environment variable {variable} is not set")
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{field}: {variable} does not hold a key")
    return key
