"""What readers of agent logs share: an episode of steps, and what a record says beside them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.messages import text_or_none
from tracelab.core.outside import decode, finite
from tracelab.core.seam import Reject
from tracelab.sources.agents.agent_log import StepList
from tracelab.sources.base import BadRecordError, refused
from tracelab.sources.files.lines import MAX_LINE_BYTES, read_lines


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any] | Reject]]:
    """The rows of a log that is one object a line; a reject for each that is none."""
    for line in read_lines(path, MAX_LINE_BYTES):
        try:
            if line.problem:
                raise BadRecordError(line.problem)
            row = decode(line.data, repair=True)
            if not isinstance(row, dict):
                raise BadRecordError("The row is not a JSON object.")
            yield line.number, row
        except Exception as e:
            yield line.number, refused(e, str(path), line.number, line.data)


def first_of(held: Mapping[str, Any], *names: str) -> Any:
    """The first of some keys that holds something; None without one."""
    return next((held[n] for n in names if held.get(n) not in (None, "")), None)


def text_at(held: Any, *path: str) -> str | None:
    """The text at a path of keys; None where there is none."""
    for key in path:
        held = held.get(key) if isinstance(held, Mapping) else None
    return text_or_none(held)


def reward_of(value: Any) -> tuple[bool | None, float | None]:
    """Success and reward of a recorded score: 1 and 0 also say success."""
    if isinstance(value, bool):
        return value, None
    reward = finite(value)
    return (bool(reward) if reward in (0.0, 1.0) else None), reward


def episode_of(
    steps: StepList,
    path: Path,
    line: int,
    *,
    format: str,
    name: str | None = None,
    task: str | None = None,
    meta: Mapping[str, Any] | None = None,
    dropped: Counter[str] | None = None,
    **known: Any,
) -> Episode:
    """An episode of steps.

    Args:
        steps: Its steps, inputs and messages.
        path: The file.
        line: The record's number in it, from 1; 0 where the file is one record.
        format: Name of the format.
        name: How the log calls the run; else by file and line.
        task: What was asked; else the first message of a user.
        meta: What else the log says, JSON values.
        dropped: What was left out, by kind: kept in `meta.dropped` and said in `notes`.
        known: More fields of `Episode`.
    """
    asked = next((s.content for s in steps.steps if s.kind == "user" and s.content), "")
    left = {k: n for k, n in (dropped or {}).items() if n}
    return Episode(
        name=name or (f"{path.name}:{line}" if line else path.stem),
        steps=tuple(steps.steps),
        format=format,
        source=str(path),
        line=line,
        task=task or asked,
        messages=steps.store.messages,
        inputs=steps.store.inputs,
        meta={**(meta or {}), **({"dropped": left} if left else {})},
        notes=tuple(f"Left out: {n} {kind}." for kind, n in left.items()),
        **known,
    )
