"""Shared fixtures. The vLLM engine is started once a session, in a Ray actor of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadFileScheduling

from tracelab.core.item import ModelRef
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.store import connect

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

    Those of `tests/store`, and those that tests start as processes, are made each time.
    """
    if "store" in request.path.parts:
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
        connect._viewed[path] = connect._viewed[empty_warehouse]

    monkeypatch.setattr(connect, "_create", create)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, also for commands that are started."""
    path = tmp_path / "home"
    monkeypatch.setenv("TRACELAB_HOME", str(path))
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first: at the end, it would leave a worker waiting."""
    engines = {
        i.path for i in items if i.get_closest_marker("engine") or i.get_closest_marker("real")
    }

    def rank(item: pytest.Item) -> int:
        return 0 if item.path in engines else 1 if item.get_closest_marker("slow") else 2

    items.sort(key=rank)


class Together(LoadFileScheduling):
    """Which tests one worker runs one after another: those that share fixtures.

    A file's do; those of the contract, and those of the real model, share their engines across
    files. Tests of statistics share nothing, and simulations are long: each goes to whoever is
    free.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        for folder in ("tests/contract/", "tests/real/"):
            if file.startswith(folder):
                return folder
        return nodeid if file.startswith("tests/stats/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadFileScheduling | None:
    """Only for `--dist loadfile`."""
    return Together(config, log) if config.getvalue("dist") == "loadfile" else None
