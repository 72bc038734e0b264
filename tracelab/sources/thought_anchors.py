"""The published Thought Anchors folders: one trace a problem folder.

A path is a problem folder (`…/problem_330`), a folder of them, or any folder above. The prompt is
raw text that already opens `<think>`, so the rendering is `raw`. The published figures and tags
of each chunk are kept in `extra["thought_anchors"]`, as published but for one known error: chunks
that have no rollouts were given an accuracy of 0.0, which also fakes the importances next to them.
Those figures become null, and a note says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracelab.core.errors import ImportFormatError
from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace, Turn
from tracelab.sources.base import Seen, SourceFormat, caught, excerpt
from tracelab.sources.files.records import MAX_FILE_BYTES
from tracelab.sources.files.unpack import UnpackError, read_whole
from tracelab.sources.registry import SOURCES

BASE = "base_solution.json"
_SUFFIX = "_base_solution"
_OF_ROLLOUTS = (
    "accuracy",
    "resampling_importance_accuracy",
    "resampling_importance_kl",
    "counterfactual_importance_accuracy",
    "counterfactual_importance_kl",
    "different_trajectories_fraction",
    "overdeterminedness",
)
_OF_NEXT_ROLLOUTS = tuple(k for k in _OF_ROLLOUTS if "importance" in k)


class _UnreadableError(Exception):
    def __init__(self, file: Path, line: int, reason: str, text: str = "") -> None:
        super().__init__(reason)
        self.reject = Reject(str(file), line, reason, excerpt(text))


def problem_folders(path: Path) -> Iterator[Path]:
    """Yield the problem folders at or below a folder, in order."""
    if (path / BASE).is_file():
        yield path
        return
    for child in sorted(path.iterdir()):
        if child.is_dir() and not child.is_symlink():
            yield from problem_folders(child)


def read_thought_anchors(path: Path, seen: Seen | None = None) -> Iterator[Trace | Reject]:
    """Yield the trace of each problem folder at or below `path`, or why there is none."""
    seen = Seen() if seen is None else seen
    for folder in problem_folders(path):
        file = str(folder / BASE)

        def made(folder: Path = folder, file: str = file) -> Trace | Reject:
            try:
                trace = _trace(folder)
            except _UnreadableError as e:
                return e.reject
            if duplicate := seen.duplicate_of(trace, file, 0, None):
                return Reject(file, 0, duplicate, excerpt(trace.response))
            return trace

        yield caught(made, file)


def _trace(folder: Path) -> Trace:
    file = folder / BASE
    base = _object(file)
    prompt, full = _string(base, "prompt", file), _string(base, "full_cot", file)
    if not prompt.strip():
        raise _bad(file, "prompt", "is empty")
    if not full.startswith(prompt):
        raise _bad(file, "full_cot", "does not start with `prompt`")
    response = full[len(prompt) :]
    if not response.strip():
        raise _bad(file, "full_cot", "has no response after the prompt")
    problem = _object(folder / "problem.json")
    place = folder.resolve()
    kind = place.parent.name
    in_tree = _SUFFIX in kind
    correct = base.get("is_correct")
    return Trace(
        turns=(Turn("user", prompt), Turn("assistant", response)),
        name=f"{kind.split(_SUFFIX)[0]}/{place.name}" if in_tree else place.name,
        model=place.parent.parent.name if in_tree else None,
        answer=_optional(base, "answer", file),
        reference=_optional(problem, "gt_answer", folder / "problem.json"),
        success=correct if isinstance(correct, bool) else None,
        rendering="raw",
        source="thought-anchors",
        extra={"thought_anchors": _figures(folder, problem)},
    )


def _figures(folder: Path, problem: dict[str, Any]) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "problem": {k: problem[k] for k in ("level", "type", "nickname") if k in problem},
        "chunks": None,
        "notes": [],
    }
    labeled = folder / "chunks_labeled.json"
    if not labeled.is_file():
        figures["notes"].append("There is no chunks_labeled.json: no published figures.")
        return figures
    chunks = _load(labeled)
    if not isinstance(chunks, list) or not all(isinstance(c, dict) for c in chunks):
        raise _UnreadableError(labeled, 0, f"{labeled.name} is not a list of objects.")
    figures["chunks"] = chunks
    resampled = folder / "chunks_resampled.json"
    if not resampled.is_file():
        figures["notes"].append("There is no chunks_resampled.json: 0.0 may mean no rollouts.")
        return figures
    rollouts = _object(resampled)
    empty = [not rollouts.get(str(c.get("chunk_idx", i))) for i, c in enumerate(chunks)]
    for i, chunk in enumerate(chunks):
        after = i + 1 < len(chunks) and empty[i + 1]
        for key in _OF_ROLLOUTS if empty[i] else _OF_NEXT_ROLLOUTS if after else ():
            if key in chunk:
                chunk[key] = None
    if any(empty):
        figures["notes"].append(
            f"{sum(empty)} of {len(chunks)} chunks have no rollouts (the first is chunk"
            f" {empty.index(True)}); their published figures, and importances next to them, are"
            " null here. Figures of forced answers are as published."
        )
    return figures


def _bad(file: Path, field: str, what: str) -> _UnreadableError:
    error = _UnreadableError(file, 0, f"`{field}` of {file.name} {what}.")
    error.reject = Reject(str(file), 0, error.reject.reason, "", field)
    return error


def _load(file: Path) -> Any:
    try:
        return decode(read_whole(file, MAX_FILE_BYTES), depth=INNER_DEPTH)
    except ImportFormatError as e:
        gone = f"{file.name} is missing." if not file.exists() else str(e)
        raise _UnreadableError(file, 0, gone) from None
    except UnpackError as e:
        raise _UnreadableError(file, 0, f"{file.name} {e}.") from None
    except OutsideError as e:
        line = e.line if e.line is not None else 0
        raise _UnreadableError(file, line, f"{file.name}: {e.reason}") from None


def _object(file: Path) -> dict[str, Any]:
    value = _load(file)
    if not isinstance(value, dict):
        raise _UnreadableError(file, 0, f"{file.name} is not a JSON object.")
    return value


def _string(data: dict[str, Any], field: str, file: Path) -> str:
    value = data.get(field)
    if not isinstance(value, str):
        raise _bad(file, field, "is missing" if value is None else "is not a string")
    return value


def _optional(data: dict[str, Any], field: str, file: Path) -> str | None:
    if data.get(field) is None:
        return None
    return _string(data, field, file).strip() or None


@SOURCES.register("thought-anchors", order=50)
class ThoughtAnchors(SourceFormat):
    """The published Thought Anchors folders: a trace a problem folder."""

    read = staticmethod(read_thought_anchors)
    folders = staticmethod(problem_folders)
