"""The wheel carries everything that is not Python, and works away from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(folder),
        str(ROOT),
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    if built.returncode != 0 and "No matching distribution" in built.stderr:
        pytest.skip("the build backend cannot be fetched here")
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_it_has_the_sql_the_configs_the_pipelines_and_the_model(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder in ("warehouse", "configs"):
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".sql", ".toml"):
                assert f"tracelab/_data/{file.relative_to(ROOT)}" in names
    for file in (ROOT / "tracelab" / "testbed" / "model").iterdir():
        assert f"tracelab/testbed/model/{file.name}" in names
    assert "pipelines/thought_anchors.py" in names
    assert {"tracelab/py.typed", "tracelab/view/templates/frame.html.j2"} <= names
    rooms = {n.partition("/")[0] for n in names if ".dist-info/" not in n}
    assert rooms == {"tracelab", "pipelines"}


def test_it_has_nothing_that_only_measures_or_trains(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    made = {p.stem for p in (ROOT / "benchmarks" / "testbed").glob("*.py")} - {"__init__"}
    assert made >= {"train", "truth", "card"}
    inside = [n for n in names if n.startswith("tracelab/testbed/")]
    assert not made & {Path(n).stem for n in inside if n.endswith(".py")}
    assert not [n for n in names if n.endswith(".parquet")]


def test_it_works_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    """Unpacked and imported before the checkout: a query on a new warehouse needs the SQL."""
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()
    (empty / "t.jsonl").write_text('{"prompt": "q", "response": "One. Two.", "answer": "2"}\n')
    code = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import tracelab; assert tracelab.__file__.startswith(sys.path[0]), tracelab.__file__\n"
        "from tracelab.cli import main\n"
        "main(sys.argv[1:])"
    )
    for command in (["ingest", "t.jsonl"], ["check"], ["query", "select count(*) n from units"]):
        out = subprocess.run(
            [sys.executable, "-c", code, *command], cwd=empty, capture_output=True, text=True
        )
        assert out.returncode == 0, out.stderr
    assert out.stdout.split() == ["n", "2"]
