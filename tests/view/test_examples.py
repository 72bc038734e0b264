"""The notebooks of `examples/`: as a newcomer runs them, cell by cell, in a running event loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))

RUNNER = """
import ast, asyncio, inspect, json, sys

async def main():
    space = {"__name__": "__main__"}
    for cell in json.load(sys.stdin):
        tree = ast.parse(cell)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        done = eval(compile(tree, "cell", "exec", flags), space)
        if inspect.isawaitable(done):
            await done
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "cell", "eval", flags), space)
            if inspect.isawaitable(value):
                value = await value
            show = getattr(value, "_repr_html_", None)
            print((show or value.__repr__)())

asyncio.run(main())
"""
"""What a notebook's kernel does: cells one after another, inside a loop, the last value shown."""


def cells(notebook: Path) -> list[dict[str, Any]]:
    data = json.loads(notebook.read_text(encoding="utf-8"))
    assert (data["nbformat"], data["nbformat_minor"]) == (4, 5)
    found: list[dict[str, Any]] = data["cells"]
    return found


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def test_there_is_one_a_study() -> None:
    names = {"context_attribution", "failure_audit", "thought_anchors"}
    assert {n.stem for n in NOTEBOOKS} == names


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_it_is_small_and_has_no_outputs(notebook: Path) -> None:
    found = cells(notebook)
    assert notebook.stat().st_size < 10_000
    assert len({c["id"] for c in found}) == len(found)
    for cell in found:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            assert source(cell).strip()


@pytest.mark.long
@pytest.mark.engine
@pytest.mark.timeout(600)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda n: n.stem)
def test_every_cell_runs(notebook: Path, tmp_path: Path) -> None:
    code = [source(c) for c in cells(notebook) if c["cell_type"] == "code"]
    env = {k: v for k, v in os.environ.items() if k != "TRACELAB_HOME"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER], input=json.dumps(code), capture_output=True, text=True,
        cwd=tmp_path, env=env,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'class="tracelab-result"' in done.stdout
    assert "nothing was measured" not in done.stdout
    assert (tmp_path / "tracelab-home" / "tracelab.duckdb").is_file()
