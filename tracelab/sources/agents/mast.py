"""MAST (MAD): runs of multi-agent systems with annotated kinds of failure.

The trajectory is a system's own log as text, or messages. A text is cut at the lines in which its
system says who speaks; where none does it is one step. The annotation is kept in `meta`, and says
no step; a run with a failure mode is not thereby a failed run.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.episode import Episode, Step, StepKind
from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources.agents.agent_log import MAX_STEPS, StepList, read_records
from tracelab.sources.agents.build import episode_of, text_at
from tracelab.sources.agents.openai_chat import chat_steps
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.guess import one_run
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES
from tracelab.sources.spans.otel_spans import as_json

FORMAT = "mast"
_LABELS = ("mast_annotation", "annotations")
_SPEAKS = re.compile(
    r"^\[\d{4}-[^\]\n]{4,40}\][ \t]*(?:INFO[ \t:-]*)?(?P<a>[A-Z][A-Za-z_ ]{1,40}): |"
    r"^-{4,} ?(?P<b>[A-Za-z_ ]{1,40}) ?-{4,}$|"
    r"^INFO - (?P<c>[A-Z][A-Za-z_ ]{1,40})'s Response:",
    re.MULTILINE,
)


def read_mast(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the run of each record."""
    return read_records(path, seen, _episode, FORMAT)


def _episode(data: Any, path: Path, line: int) -> Episode:
    if not isinstance(data, dict):
        raise BadRecordError("The record is not a JSON object.")
    held = data.get("trace")
    said = held.get("trajectory") if isinstance(held, dict) else held
    told = as_json(said)
    dropped: Counter[str] = Counter()
    if isinstance(told, list):
        steps = chat_steps(told, None, dropped, "trajectory")
    elif isinstance(said, str) and said.strip():
        steps = _spoken(said)
    else:
        raise BadRecordError("`trace` holds no trajectory.", "trace")
    system = text_or_none(data.get("mas_name"))
    name = text_or_none(data.get("trace_id"))
    key = text_at(data, "trace", "key")
    return episode_of(
        steps, path, line, format=FORMAT, dropped=dropped,
        name=key or (f"{system or 'run'} {name}" if name is not None else None),
        task_id=text_or_none(data.get("benchmark_name")), version=system,
        model=text_or_none(data.get("llm_name")),
        meta={k: v for k, v in data.items() if k != "trace"},
    )  # fmt: skip


def _spoken(text: str) -> StepList:
    out = StepList()
    found = list(_SPEAKS.finditer(text))[: MAX_STEPS - 1]
    cuts = [0, *(m.start() for m in found), len(text)]
    for k, (start, end) in enumerate(zip(cuts, cuts[1:], strict=False)):
        if not text[start:end].strip():
            continue
        speaker = next((g for g in found[k - 1].groups() if g), None) if k else None
        agent = speaker.strip() if speaker else "log"
        kind: StepKind = "llm" if k or not found else "system"
        out.add(Step(0, kind, agent=agent, content=text[start:end].strip("\n"),
                     place=f"characters {start} to {end}"))  # fmt: skip
    return out


@SOURCES.register(FORMAT, order=30)
class Mast(SourceFormat):
    """MAST (MAD): logs of multi-agent systems with annotated kinds of failure."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_mast)
    one = staticmethod(one_run(_episode))

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        r = head.record
        return "mas_name" in r and "trace" in r
