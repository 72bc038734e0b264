"""The wheel carries everything that is not Python, and works away from the checkout."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from release.lowest import lowest
from release.sbom import bill

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


def test_nothing_of_it_runs_when_it_is_installed(wheel: Path) -> None:
    """A pure wheel: files are copied, nothing is built, and no start of Python runs anything."""
    assert wheel.name.endswith("-py3-none-any.whl")
    assert not (ROOT / "setup.py").exists() and not (ROOT / "setup.cfg").exists()
    with zipfile.ZipFile(wheel) as z:
        names = z.namelist()
        about = next(n for n in names if n.endswith(".dist-info/WHEEL"))
        assert "Root-Is-Purelib: true" in z.read(about).decode()
        scripts = next(n for n in names if n.endswith("entry_points.txt"))
        groups = [x for x in z.read(scripts).decode().splitlines() if x.startswith("[")]
    assert groups == ["[console_scripts]"]  # no plug-in of setuptools, pytest or pip
    run_by_python = (".pth", "sitecustomize.py", "usercustomize.py", "setup.py", ".so", ".pyd")
    assert [n for n in names if n.endswith(run_by_python) or ".data/" in n] == []


def test_its_bill_of_materials_names_what_is_in_it_and_what_it_requires(wheel: Path) -> None:
    made = bill(wheel)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made == bill(wheel)
    itself = made["metadata"]["component"]
    assert itself["hashes"][0]["content"] == hashlib.sha256(wheel.read_bytes()).hexdigest()
    by_name = {c["name"]: c for c in made["components"]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in project["dependencies"]:
        name, _, low = text.partition(">=")
        assert by_name[name]["properties"] == [{"name": "range", "value": f">={low}"}]
    assert by_name["pydantic"]["version"] and by_name["pydantic-core"]["version"]
    assert by_name["model"]["type"] == "machine-learning-model"
    refs = {c["bom-ref"] for c in made["components"]} | {itself["bom-ref"]}
    assert all(r in refs for d in made["dependencies"] for r in [d["ref"], *d["dependsOn"]])


def test_lowest_versions_are_those_of_the_project() -> None:
    found = lowest()
    assert any(x.startswith("duckdb==") for x in found)
    assert not any(x.startswith(("torch==", "ray==", "transformers==")) for x in found)
