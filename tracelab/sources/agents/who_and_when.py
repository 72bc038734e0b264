"""Who&When: failed multi-agent runs with an annotated decisive step, both subsets.

Format: Zhang et al. 2025, arXiv 2505.00212, and its repository. Algorithm-generated files name
the agent in `name`; hand-crafted ones in `role`, where `Orchestrator (thought)`,
`Orchestrator (-> X)` and the like are one agent and are folded. Labels are 0-based, written as a
string or an integer. The log holds no model inputs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode, Label, Step, StepKind, fold_role
from tracelab.core.messages import text_of, text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import MAX_STEPS, read_documents
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

_TOOLS = {"computer_terminal", "computerterminal"}
_LABELS = ("mistake_step", "mistake_agent", "question_ID")
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}")
_KNOWN = {
    "history", "question", "question_ID", "ground_truth", "groundtruth", "mistake_agent",
    "mistake_step", "mistake_reason", "is_correct", "is_corrected", "level",
}  # fmt: skip


def read_who_and_when(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of one file of the data set."""
    return read_documents(path, seen, who_and_when_episode, lines=path.suffix == ".jsonl")


def who_and_when_episode(data: Any, path: Path, line: int = 0) -> Episode:
    """Turn one record into an episode.

    Raises:
        BadRecordError: It is not a record of this data set.
    """
    if not isinstance(data, dict) or not isinstance(data.get("history"), list):
        raise BadRecordError("`history` is missing or not a list.", "history")
    if len(data["history"]) > MAX_STEPS:
        raise BadRecordError(f"The run has more than {MAX_STEPS} steps.", "history")
    steps = [_step(item, i) for i, item in enumerate(data["history"])]
    notes: list[str] = []
    step = _label_step(data.get("mistake_step"), len(steps), notes)
    agent = text_or_none(data.get("mistake_agent"))
    agent = None if agent is None else fold_role(agent)
    if step is not None and agent is not None and steps[step].agent != agent:
        notes.append(f"The label blames {agent!r}, but step {step} is {steps[step].agent!r}'s.")
    reference = text_or_none(data.get("ground_truth"))
    if reference is None:  # its name in the first release of the hand-crafted files
        reference = text_or_none(data.get("groundtruth"))
    solved = data.get("is_correct", data.get("is_corrected"))
    meta = {k: v for k, v in data.items() if k not in _KNOWN}
    if (level := text_or_none(data.get("level"))) is not None:
        meta["level"] = level  # a string in one subset, an integer in the other
    named = any(isinstance(h, dict) and "name" in h for h in data["history"])
    meta["subset"] = "algorithm-generated" if named else "hand-crafted"
    reason = text_or_none(data.get("mistake_reason"))
    labelled = step is not None or agent is not None
    return Episode(
        name=f"{path.parent.name}/{path.stem}" + (f":{line}" if line else ""),
        steps=tuple(steps),
        format="who-and-when",
        source=str(path),
        line=line,
        task=text_or_none(data.get("question")) or "",
        task_id=text_or_none(data.get("question_ID")),
        success=solved if isinstance(solved, bool) else None,
        reference=reference,
        label=Label(step, agent, reason) if labelled else None,
        meta=meta,
        notes=tuple(notes),
    )


def _step(item: Any, index: int) -> Step:
    if not isinstance(item, dict):
        raise BadRecordError(f"`history[{index}]` is not an object.", "history")
    role = text_or_none(item.get("role")) or "unknown"
    agent = text_or_none(item.get("name")) or fold_role(role)
    content, flags = text_of(item.get("content"))
    if not content.strip():
        flags = (*flags, "no_content")
    kind: StepKind = "llm"
    if agent.lower() in _TOOLS:
        kind = "tool"
    elif agent.lower() in ("human", "user") and "name" not in item:
        kind = "user"
    elif agent.lower() == "system":
        kind = "system"
    if role.startswith("Orchestrator"):
        flags = (*flags, "coordinator")
    return Step(
        index=index,
        kind=kind,
        agent=agent,
        content=content,
        tool=agent if kind == "tool" else None,
        result=content if kind == "tool" else None,
        flags=flags,
        place=f"history[{index}]",
    )


def _label_step(value: Any, steps: int, notes: list[str]) -> int | None:
    if value is None:
        return None
    text = value.strip() if isinstance(value, str) else value
    if isinstance(text, str) and _INTEGER.fullmatch(text):
        text = int(text)
    if isinstance(text, bool) or not isinstance(text, int):
        notes.append(f"`mistake_step` is not an integer: {str(value)[:40]!r}.")
    elif not 0 <= text < steps:
        notes.append(f"`mistake_step` is {text}, but there are {steps} steps.")
    else:
        return text
    return None


@SOURCES.register("who-and-when", order=30)
class WhoAndWhen(SourceFormat):
    """Who&When: failed multi-agent runs with an annotated decisive step."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_who_and_when)
    one = staticmethod(one_run(who_and_when_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        data = head.record
        if isinstance(data.get("history"), list) and any(k in data for k in _LABELS):
            return True
        return head.shows(
            rb'"(mistake_step|mistake_agent|question_ID)"\s*:', rb'\A\{\s*"history"\s*:\s*\['
        )
