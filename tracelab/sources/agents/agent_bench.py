"""Results of AgentBench (`runs.jsonl`): `output.history` of users and agents, and a result."""

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
from tracelab.sources.agents.build import episode_of, first_of, reward_of
from tracelab.sources.agents.openai_chat import chat_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "agent-bench"


def read_runs(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each run."""
    return read_records(path, seen, _episode, FORMAT)


def _episode(data: Any, path: Path, line: int) -> Episode:
    output = data.get("output") if isinstance(data, dict) else None
    if not isinstance(output, dict):
        why = data.get("error") if isinstance(data, dict) else None
        raise BadRecordError(f"The run has no output{f': {why}' if why else ''}.", "output")
    dropped: Counter[str] = Counter()
    steps = chat_steps(output.get("history"), None, dropped, "output.history")
    result = output.get("result")
    raw = first_of(result, "reward", "score", "success", "is_correct") if isinstance(
        result, dict) else result  # fmt: skip
    success, reward = reward_of(raw)
    index = text_or_none(data.get("index", output.get("index")))
    return episode_of(
        steps, path, line, format=FORMAT, name=f"index {index}" if index is not None else None,
        task_id=index, success=success, reward=reward,
        answer=text_or_none(result.get("answer")) if isinstance(result, dict) else None,
        meta={**{k: v for k, v in data.items() if k != "output"},
              **{k: v for k, v in output.items() if k != "history"}},
        dropped=dropped,
    )  # fmt: skip


@SOURCES.register(FORMAT, order=30)
class AgentBench(SourceFormat):
    """Results of AgentBench, a run a line."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_runs)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        output = head.record.get("output")
        return isinstance(output, dict) and isinstance(output.get("history"), list)
