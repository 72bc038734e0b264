"""Shared fixtures. The vLLM engine is started once a session, in a Ray actor of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tracelab.core.item import ModelRef
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.store import connect

pytest_plugins = ["tests.scheduling"]

# A busy machine is no failure: no time limit an example. What failed is printed, to be replayed.
settings.register_profile("tracelab", deadline=None, print_blob=True)
settings.load_profile("tracelab")

SCRIPT_REF = ModelRef(name="scripted", revision="planted-1", dtype="float64")


@pytest.fixture(scope="session")
def script() -> Script:
    return Script.planted()


@pytest.fixture(scope="session")
def script_tokenizer(script: Script) -> ScriptTokenizer:
    return ScriptTokenizer(script)


@pytest.fixture
def script_spec() -> Callable[..., EngineSpec]:
    def make(**options: object) -> EngineSpec:
        return EngineSpec("scripted", "scripted", SCRIPT_REF, 4096, options)

    return make


@pytest.fixture(scope="session")
def empty_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A warehouse as the first command of a user makes it, with nothing in it."""
    path = tmp_path_factory.mktemp("warehouse") / "tracelab.duckdb"
    with connect.open_writer(path):
        return path


@pytest.fixture(autouse=True)
def made_once(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, empty_warehouse: Path
) -> None:
    """Fresh warehouses are copies of an empty one: making one takes longer than most tests.

    Those of the tests of making one, and those that tests start as processes, are made each time.
    """
    if request.path.name == "test_warehouse.py":
        return

    def create(path: Path) -> None:
        new = path.with_name(f".{path.name}.new")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(empty_warehouse, new)
            new.replace(path)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise connect.explain("create", path, error) from error

    monkeypatch.setattr(connect, "_create", create)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, also for commands that are started."""
    path = tmp_path / "home"
    monkeypatch.setenv("TRACELAB_HOME", str(path))
    return path
