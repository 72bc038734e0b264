"""The architecture, held: the core is pure, modules are small, configs and SQL parse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = [
    "core.trace",
    "core.item",
    "core.finding",
    "text.segment",
    "text.categories",
    "stats.intervals",
    "studies.anchors.resample",
    "studies.anchors.published.recipe",
]
HEAVY = ["torch", "vllm", "ray", "duckdb", "transformers", "pyarrow", "pandas"]


@pytest.mark.parametrize("module", CORE)
def test_core_module_imports_nothing_heavy(module: str) -> None:
    code = f"import sys, tracelab.{module}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_help_starts_without_heavy_imports() -> None:
    code = (
        "import sys\nfrom tracelab.cli import main\n"
        "main(['--help'], standalone_mode=False)\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip().endswith("[]")


def test_import_contract() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    out = subprocess.run([tool], capture_output=True, text=True, cwd=ROOT)
    assert out.returncode == 0, out.stdout


def test_modules_are_small() -> None:
    sizes = {
        p: len(p.read_text().splitlines())
        for folder in ("tracelab", "pipelines")
        for p in (ROOT / folder).rglob("*.py")
    }
    assert max(sizes.values()) <= 400, max(sizes, key=sizes.get)
    assert sorted(sizes.values())[len(sizes) // 2] <= 150
