"""Make the reference values that attribution methods are held to.

Half of everything comes from the development split, half from the evaluation split. Work is done
in parts, written as they finish to `OUT/parts`, so that a stopped run continues where it was; when
the last part is there the Parquet tables are written and the parts removed. Each table's metadata
says with which command, weights and settings it was made and how long that took.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from benchmarks.testbed.reference import Reference, Rows

OUT = Path(__file__).parent / "truth_tables"
TABLES = ("traces", "boundaries", "contexts", "context_effects", "episodes", "steps")
SIZES = ("traces", "rollouts", "contexts", "episodes", "episode_rollouts", "seed")
SPLITS = ("development", "evaluation")
CHUNK = {"trace": 1, "context": 10, "episode": 5}  # cases a part
Job = tuple[str, str, int, int]  # kind, split, first index, end

_reference: Reference
_settings: dict[str, Any]
_parts: Path


def jobs(settings: dict[str, Any]) -> list[Job]:
    """All parts, the long ones first."""
    found: list[Job] = []
    for kind, size in CHUNK.items():
        each = -(-settings[f"{kind}s"] // len(SPLITS))
        for split in SPLITS:
            for first in range(0, each, size):
                found.append((kind, split, first, min(each, first + size)))
    return found


def part_path(parts: Path, job: Job) -> Path:
    """Where a part lies."""
    kind, split, first, _ = job
    return parts / f"{kind}-{split}-{first:04d}.json"


def start_worker(model: Path, settings: dict[str, Any], parts: Path) -> None:
    """Load the model in a process."""
    global _reference, _settings, _parts
    _reference, _settings, _parts = Reference(model), settings, parts


def do(job: Job) -> Job:
    """Make one part."""
    kind, split, first, end = job
    began = time.monotonic()
    rows: Rows = {}
    for index in range(first, end):
        where = split, _settings["seed"], index
        if kind == "trace":
            made = _reference.trace(*where, _settings["rollouts"])  # type: ignore[arg-type]
        elif kind == "context":
            made = _reference.context(*where)  # type: ignore[arg-type]
        else:
            made = _reference.episode(*where, _settings["episode_rollouts"])  # type: ignore[arg-type]
        for name, found in made.items():
            rows.setdefault(name, []).extend(found)
    path = part_path(_parts, job)
    part = path.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps({"seconds": time.monotonic() - began, "rows": rows}))
    os.replace(part, path)
    return job


def open_parts(out: Path, settings: dict[str, Any]) -> Path:
    """The folder of parts; refuses to mix settings."""
    parts = out / "parts"
    parts.mkdir(parents=True, exist_ok=True)
    noted = parts / "settings.json"
    if noted.exists() and (old := json.loads(noted.read_text())) != settings:
        differing = sorted(k for k in settings if settings[k] != old.get(k))
        raise SystemExit(f"{parts} was begun with other settings: {', '.join(differing)}")
    noted.write_text(json.dumps(settings, indent=1))
    return parts


def run(model: Path, parts: Path, settings: dict[str, Any], processes: int, until: float) -> int:
    """Make what is missing until a time; return how many parts are still missing."""
    every = jobs(settings)
    todo = [job for job in every if not part_path(parts, job).exists()]
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=len(every), initial=len(every) - len(todo), desc="parts")
    if todo:
        with context.Pool(processes, start_worker, (model, settings, parts)) as pool:
            made = pool.imap_unordered(do, todo)
            for _ in todo:
                try:
                    made.next(max(0.01, until - time.monotonic()))
                except multiprocessing.TimeoutError:
                    break
                bar.update()
    bar.close()
    return sum(not part_path(parts, job).exists() for job in every)


def write(out: Path, parts: Path, settings: dict[str, Any]) -> None:
    """Join the parts into one Parquet file a table."""
    rows: Rows = {name: [] for name in TABLES}
    seconds: dict[str, float] = dict.fromkeys(CHUNK, 0.0)
    for job in jobs(settings):
        part = json.loads(part_path(parts, job).read_text())
        seconds[job[0]] += part["seconds"]
        for name, found in part["rows"].items():
            rows[name] += found
    about = settings | {"process_seconds": {k: round(s) for k, s in seconds.items()}}
    for name, found in rows.items():
        table = pa.Table.from_pylist(found)
        table = table.replace_schema_metadata({"tracelab": json.dumps(about)})
        pq.write_table(table, out / f"{name}.parquet", compression="zstd", compression_level=19)


def load(name: str, folder: Path = OUT) -> pa.Table:
    """One of `TABLES`; its schema's metadata says how it was made."""
    return pq.read_table(folder / f"{name}.parquet")


def make(
    model: Path, out: Path, sizes: dict[str, int], processes: int, seconds: float
) -> dict[str, Any]:
    """Make the tables, or as many parts of them as there is time for.

    Args:
        model: Folder with the weights.
        out: Folder to write.
        sizes: `traces`, `rollouts`, `contexts`, `episodes`, `episode_rollouts` and `seed`.
        processes: How many share the work.
        seconds: Stop after this long.

    Returns:
        The folder, how many parts there are, and how many are still to be made.
    """
    until = time.monotonic() + seconds
    weights = (model / "model.safetensors").read_bytes()
    settings = {
        "command": "python -m benchmarks truth",
        "weights_sha256": hashlib.sha256(weights).hexdigest(),
        **{k: sizes[k] for k in SIZES},
    }
    parts = open_parts(out, settings)
    missing = run(model, parts, settings, processes, until)
    if not missing:
        write(out, parts, settings)
        shutil.rmtree(parts)
    return {"out": str(out), "parts": len(jobs(settings)), "missing": missing}
