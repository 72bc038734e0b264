"""Solutions whose steps people have labelled: ProcessBench and PRM800K rows.

The response is the steps, a blank line between two. `extra.steps` are their texts and
`extra.first_error` the number of the first wrong one, from 0; -1 where none is wrong, None where
the labels do not say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracelab.core.messages import text_or_none
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources.base import BadRecordError, Seen, SourceFormat
from tracelab.sources.files.records import traces_of_records
from tracelab.sources.files.sniff import DOCUMENTS, LINES, Head
from tracelab.sources.registry import SOURCES

FORMAT = "labelled-steps"
BETWEEN = "\n\n"


def read_labelled(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace, or the reject, of each row."""
    return traces_of_records(path, seen, _traces, FORMAT)


def _traces(row: dict[str, Any], path: Path, number: int) -> Iterator[Trace]:
    yield (_prm if isinstance(row.get("label"), dict) else _process)(row, path, number)


def _trace(
    problem: Any, steps: list[str], first_error: int | None, path: Path, number: int,
    extra: Mapping[str, Any], **known: Any,
) -> Trace:  # fmt: skip
    asked = text_or_none(problem)
    if asked is None:
        raise BadRecordError("`problem` is missing or empty.", "problem")
    if not steps or not "".join(steps).strip():
        raise BadRecordError("The solution has no steps.", "steps")
    return Trace(
        turns=(Turn("user", asked), Turn("assistant", BETWEEN.join(steps))),
        source=str(path),
        extra={**extra, "steps": steps, "first_error": first_error},
        line=number,
        **known,
    )


def _process(row: dict[str, Any], path: Path, number: int) -> Trace:
    steps = row.get("steps")
    if not isinstance(steps, list) or not all(isinstance(s, str) for s in steps):
        raise BadRecordError("`steps` is not a list of texts.", "steps")
    label = row.get("label")
    if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < len(steps):
        raise BadRecordError("`label` is no number of a step, nor -1.", "label")
    right = row.get("final_answer_correct")
    known = ("problem", "steps", "label", "id", "generator", "final_answer_correct")
    return _trace(
        row.get("problem"), steps, label, path, number,
        {k: v for k, v in row.items() if k not in known},
        name=text_or_none(row.get("id")) or f"{path.name}:{number}",
        model=text_or_none(row.get("generator")),
        success=right if isinstance(right, bool) else None,
    )  # fmt: skip


def _prm(row: dict[str, Any], path: Path, number: int) -> Trace:
    question, label = row.get("question"), row["label"]
    if not isinstance(question, dict):
        raise BadRecordError("`question` is not an object.", "question")
    steps: list[str] = []
    ratings: list[Any] = []
    for step in label.get("steps") or ():
        if not isinstance(step, dict):
            raise BadRecordError("A step is not an object.", "label.steps")
        done, at = step.get("completions") or [], step.get("chosen_completion")
        human = step.get("human_completion")
        picked = done[at] if isinstance(at, int) and 0 <= at < len(done) else human
        if picked is None and done:  # where the labeller stopped: none was good enough
            picked = done[0]
        if not isinstance(picked, dict) or not isinstance(picked.get("text"), str):
            continue
        steps.append(picked["text"])
        ratings.append(picked.get("rating"))
    wrong = next((i for i, r in enumerate(ratings) if r == -1), None)
    sure = (
        wrong if wrong is not None else (-1 if label.get("finish_reason") == "solution" else None)
    )
    return _trace(
        question.get("problem"), steps, sure, path, number,
        {**{k: v for k, v in row.items() if k not in ("question", "label")}, "ratings": ratings,
         "finish_reason": label.get("finish_reason")},
        name=text_or_none(row.get("id")) or f"{path.name}:{number}",
        reference=text_or_none(question.get("ground_truth_answer")),
    )  # fmt: skip


@SOURCES.register(FORMAT, order=40)
class LabelledSteps(SourceFormat):
    """Solutions with labelled steps (ProcessBench, PRM800K), a trace a row."""

    suffixes = (*LINES, *DOCUMENTS)
    read = staticmethod(read_labelled)
    one = staticmethod(_traces)

    @staticmethod
    def sniff(head: Head) -> bool:
        """See `SourceFormat.sniff`."""
        r = head.record
        rated = isinstance(r.get("label"), dict) and isinstance(r.get("question"), dict)
        return rated or (isinstance(r.get("steps"), list) and {"problem", "label"} <= set(r))
