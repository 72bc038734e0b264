"""Results of tau-bench and tau2-bench: rows with `traj`, or a file of `simulations`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode
from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import read_records
from tracelab.sources.agents.build import episode_of, reward_of, text_at
from tracelab.sources.agents.openai_chat import chat_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "tau-bench"


def read_results(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each simulation."""
    return read_records(path, seen, _episode, FORMAT, inside="simulations")


def _episode(data: Any, path: Path, line: int) -> Episode:
    if not isinstance(data, dict):
        raise BadRecordError("The record is not a JSON object.")
    said = data.get("traj", data.get("messages"))
    dropped: Counter[str] = Counter()
    steps = chat_steps(said, data.get("tools"), dropped, "traj" if "traj" in data else "messages")
    held = data.get("reward_info")
    raw = data.get("reward", held.get("reward") if isinstance(held, dict) else None)
    success, reward = reward_of(raw)
    task = text_or_none(data.get("task_id"))
    trial = text_or_none(data.get("trial"))
    name = text_or_none(data.get("id")) or (
        f"task {task}" + (f" trial {trial}" if trial is not None else "") if task else None
    )
    return episode_of(
        steps, path, line, format=FORMAT, name=name, task_id=task, success=success, reward=reward,
        task=text_at(data, "info", "task", "instruction") or text_at(data, "ticket"),
        meta={k: v for k, v in data.items() if k not in ("traj", "messages", "tools")},
        dropped=dropped,
    )  # fmt: skip


def _is_row(data: Any) -> bool:
    return isinstance(data, dict) and (
        (isinstance(data.get("traj"), list) and "task_id" in data)
        or (isinstance(data.get("messages"), list) and "reward_info" in data)
    )


@SOURCES.register(FORMAT, order=30)
class TauBench(SourceFormat):
    """Results of tau-bench and tau2-bench, a run a row."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_results)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        inside = head.record.get("simulations")
        rows = inside if isinstance(inside, list) else head.data
        first = rows[0] if isinstance(rows, list) and rows else rows
        return _is_row(first) or head.shows(rb'"simulations"\s*:\s*\[', rb'"traj"\s*:\s*\[')
