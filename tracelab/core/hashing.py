"""One hash of JSON values, for ids and keys. Pure."""

from __future__ import annotations

import hashlib
import json

_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def content_hash(value: object, size: int = 8) -> str:
    """Return a hex digest (2 x `size` characters) of a JSON-serialisable value.

    Canonical JSON (sorted keys, no spaces, UTF-8), so equal values hash equally on every machine.
    Lone surrogates, which hostile JSON can contain, are hashed by their escaped form.
    """
    text = _CANONICAL.encode(value)
    return hashlib.blake2b(text.encode("ascii"), digest_size=size).hexdigest()
