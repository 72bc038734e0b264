"""What a run that has begun demands of whoever continues it: the same work, or more of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.core.item import ModelRef
from tracelab.core.secrets import redacted_json
from tracelab.run.config import RunConfig, parse_config
from tracelab.store.files import Store


def read_record(root: str, run_id: str) -> dict[str, Any] | None:
    """`run.json` of a run that has observations; None if there is no such run."""
    store = Store(f"{root.rstrip('/')}/{run_id}")
    data = store.read("run.json")
    if data is None or not store.list("observations", ".parquet"):
        return None
    record: dict[str, Any] = json.loads(data)
    return record


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
