"""Keys of endpoints: named in configs by an environment variable, never written there."""

from __future__ import annotations

import os

from tracelab.core.errors import ConfigError
from tracelab.core.secrets import keep_secret, key_variable


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
    try:
        key = os.environ.get(key_variable(variable), "").strip()
    except ValueError as e:
        raise ConfigError(f"{field}: {e}") from None
    if not key:
        raise ConfigError(f"{field}: the environment variable {variable} is not set")
    keep_secret(key)
    if not key.isascii() or not key.isprintable():
        raise ConfigError(f"{field}: {variable} does not hold a key")
    return key
