"""The published Thought Anchors traces, for the golden tests; none where ../shared is absent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tests.shared import thought_anchors

FOLDERS = thought_anchors()
# Exact counts below hold for the half that is present here; rates hold for any traces of the kind.
HALF = len(FOLDERS) == 20 and {p.parts[-3] for p in FOLDERS} == {"deepseek-r1-distill-llama-8b"}


@dataclass(frozen=True)
class Published:
    folder: Path
    problem: dict[str, Any]
    base: dict[str, Any]
    chunks: list[dict[str, Any]]
    resampled: list[list[str]]  # first sentences, by chunk
    matrix: list[dict[str, Any]] | None
    summary: dict[str, Any]


@lru_cache(maxsize=1)
def published() -> list[Published]:
    traces = []
    for folder in FOLDERS:
        matrix = folder / "step_importance.json"
        resampled = _read(folder / "chunks_resampled.json")
        chunks = _read(folder / "chunks_labeled.json")
        traces.append(
            Published(
                folder=folder,
                problem=_read(folder / "problem.json"),
                base=_read(folder / "base_solution.json"),
                chunks=chunks,
                resampled=[resampled.get(str(c["chunk_idx"]), []) for c in chunks],
                matrix=_read(matrix) if matrix.is_file() else None,
                summary=_read(folder / "summary.json"),
            )
        )
    return traces


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
