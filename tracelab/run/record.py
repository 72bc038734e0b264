"""A run's `run.json`: what it has, and what it demands of whoever continues the run.

What is demanded is the same work, or more of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from types import NoneType
from typing import Any

from tracelab.core.errors import ConfigError, DamagedError
from tracelab.core.item import ModelRef
from tracelab.core.secrets import redacted_json
from tracelab.run.config import RunConfig, parse_config
from tracelab.store.journal import RECORD, Journal
from tracelab.store.rows import SessionRow

OWED = "owed"
"""Key of a record: what was lost of a run that had been finished; it is owed again."""

_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "run_id": str, "config": dict, "identity": dict, "digest": str, "tracelab_version": str,
    "versions": dict, "engine": str, "model": str, "started_at": str,
    "finished_at": (str, NoneType), OWED: (str, NoneType),
}  # fmt: skip


def read_record(journal: Journal) -> dict[str, Any] | None:
    """A run's record; None if it has none.

    Raises:
        DamagedError: It is not what was written.
    """
    found = journal.read_json(RECORD)
    if found is None:
        return None
    where = journal.store.path(RECORD)
    for key, kind in _TYPES.items():
        if not isinstance(found.get(key), kind):
            raise DamagedError(f"{where} is damaged: `{key}` is missing or wrong")
    try:
        for key in ("started_at", "finished_at"):
            if found[key] is not None:
                datetime.fromisoformat(found[key])
        parse_config(found["config"], "config")
        found["identity"]["model_revision"]
    except (ConfigError, KeyError, TypeError, ValueError) as e:
        raise DamagedError(f"{where} is damaged: {e}") from None
    return found


def session_row(session: Mapping[str, Any]) -> SessionRow:
    """What the journal has of one invocation as a row of `sessions`.

    Raises:
        DamagedError: It is not that; the message says why.
    """
    try:
        rest = {k: v for k, v in session.items() if k not in ("started_at", "closed")}
        row = SessionRow(started_at=datetime.fromisoformat(session["started_at"]), **rest)
    except (KeyError, TypeError, ValueError) as e:
        raise DamagedError(f"it is not the record of a session ({e})") from None
    numbers = {f.name: getattr(row, f.name) for f in fields(row)}
    for name in ("session", "started_at", "extra"):
        del numbers[name]
    for name, n in numbers.items():
        if n is not None and not (isinstance(n, int | float) and 0 <= n < 1 << 62):
            raise DamagedError(f"its `{name}` is {n!r}")
    return row


def identity(config: RunConfig, model: ModelRef) -> dict[str, Any]:
    """What may not change while a run goes on."""
    return config.identity() | {"model_revision": model.revision}


def continued(
    old: dict[str, Any], config: RunConfig, model: ModelRef, warn: Callable[[str], None]
) -> RunConfig:
    """The config with which a run that has begun is continued.

    A run only grows: if fewer rollouts are asked for than it has, it keeps those it has.

    Args:
        old: Its `run.json`.
        config: The config it is to be continued with.
        model: The model that config means.
        warn: Told if the config is not followed to the letter.

    Raises:
        ConfigError: The config would change its numbers.
    """
    # What is kept of a config has no credentials in it, so they do not make it another one.
    changed = sorted(_differences(old["identity"], redacted_json(identity(config, model))))
    if changed:
        raise ConfigError(
            f"run {config.name!r} was started with another config; changed: "
            f"{'; '.join(changed)}. Choose another `name`, or start over with --fresh."
        )
    before = parse_config(old["config"], "run.json").options
    kept = {
        key: had
        for key in config.options.grows
        if (had := getattr(before, key)) > getattr(config.options, key)
    }
    for key, had in kept.items():
        warn(
            f"run {config.name!r} was started with {key} = {had}; it keeps what it has (asked for "
            f"{getattr(config.options, key)})"
        )
    return config.with_options(**kept) if kept else config


def _differences(old: Any, new: Any, at: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in old.keys() | new.keys():
            yield from _differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield f"{at} (was {old!r}, is {new!r})"
