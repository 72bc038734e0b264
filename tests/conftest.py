"""Shared fixtures. The vLLM engine is started once a session, in a Ray actor of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from tracelab.core.item import ModelRef
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import Script, ScriptTokenizer

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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of the test's own, also for commands that are started."""
    path = tmp_path / "home"
    monkeypatch.setenv("TRACELAB_HOME", str(path))
    return path


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest first, and on one worker what shares an engine.

    Files that start engines, then simulations, then the rest: at the end, long ones would leave a
    worker waiting. The contract's tests share their engines across files; a file shares its
    fixtures; simulations share nothing, and go to whoever is free.
    """
    engines = {i.path for i in items if i.get_closest_marker("engine")}

    def rank(item: pytest.Item) -> int:
        return 0 if item.path in engines else 1 if item.get_closest_marker("slow") else 2

    for item in items:
        if rank(item) != 1:
            shares = "contract" if item.path.parent.name == "contract" else str(item.path)
            item.add_marker(pytest.mark.xdist_group(shares))
    items.sort(key=rank)
