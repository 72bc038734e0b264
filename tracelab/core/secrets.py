"""Keys of endpoints and credentials in URLs: never stored, never printed.

A key is named in configs by an environment variable, and its value is known here from the moment
it is read. From then on `hidden` and `redacted` replace it wherever something is written: replies
of endpoints as they come in, the journal, records of runs, rows of the warehouse, messages. By
value, so it does not matter who says it: a server that echoes the header, an error, a model.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

HIDDEN = "[secret]"
"""What stands where a secret was."""

_SHORTEST = 8
"""A shorter value is hidden only where it is recognisably a credential: it may be a plain word."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_USUAL = re.compile(r"KEY|TOKEN|SECRET|PASS|AUTH|API|^[A-Z]+(?:_[A-Z]+)+$")
_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)([^\s/?#\"'<>\\]*)@", re.IGNORECASE)
_PARAMETER = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|passw|signature|credential)[\w.-]*=)[^&\s\"'<>#\\]+",
    re.IGNORECASE,
)
_known: list[str] = []
"""The longest first, so that what stands for a secret does not depend on anything else."""


def keep_secret(value: str) -> None:
    """Have a value hidden from now on, in the forms in which it travels."""
    forms = {value, unquote(value)}
    forms |= {base64.b64encode(f.encode("utf-8", "replace")).decode() for f in forms}
    found = {*_known, *(f for f in forms if len(f) >= _SHORTEST), f"Bearer {value}"}
    _known[:] = sorted(found, key=lambda secret: (-len(secret), secret))


def hidden(text: str) -> str:
    """A text without the secrets that are known."""
    for secret in _known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def hidden_bytes(data: bytes) -> bytes:
    """The same for bytes in UTF-8."""
    for secret in _known:
        data = data.replace(secret.encode("utf-8", "replace"), HIDDEN.encode())
    return data


def any_known() -> bool:
    """Whether there is anything to hide."""
    return bool(_known)


def hidden_json(value: Any) -> Any:
    """JSON values with every string `hidden`."""
    return _each(value, hidden)


def redacted(text: str) -> str:
    """A message or a setting without secrets, and without credentials in its URLs."""
    return _PARAMETER.sub(rf"\1{HIDDEN}", _USER_INFO.sub(rf"\1{HIDDEN}@", hidden(text)))


def redacted_json(value: Any) -> Any:
    """JSON values with every string `redacted`."""
    return _each(value, redacted)


def _each(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {_each(k, change): _each(v, change) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_each(v, change) for v in value]
    return value


def keep_secrets_of(settings: Any) -> None:
    """Have what a config gives away hidden: credentials in URLs, keys in the variables it names."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            if str(key).endswith("api_key_env") and isinstance(value, str):
                if held := os.environ.get(value, "").strip():
                    keep_secret(held)
            keep_secrets_of(value)
    elif isinstance(settings, list | tuple):
        for value in settings:
            keep_secrets_of(value)
    elif isinstance(settings, str):
        for _, user in _USER_INFO.findall(settings):
            keep_secret(user)
            keep_secret(user.partition(":")[2] or user)


def key_variable(name: str) -> str:
    """The name of an environment variable, and not a key that was pasted in its place.

    Raises:
        ValueError: It is none, or is not set and looks like a key; the message does not quote it.
    """
    plain = _NAME.fullmatch(name) is not None
    if plain and (name in os.environ or (_USUAL.search(name) and name.upper() == name)):
        return name
    keep_secret(name)
    raise ValueError(
        "this takes the name of an environment variable that holds the key, never the key itself; "
        "no variable of this name is set"
    )


def plain_url(url: str) -> str:
    """An endpoint's URL, without credentials: those go into an environment variable.

    Raises:
        ValueError: It has some, or a query; the message does not quote it.
    """
    found = _USER_INFO.search(url)
    if found is None and "?" not in url and "#" not in url:
        return url
    keep_secrets_of(url)
    what = "a user or password" if found else "a query"
    raise ValueError(
        f"an endpoint's URL must not hold {what}: name the environment variable that holds the key "
        "in api_key_env"
    )
