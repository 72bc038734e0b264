"""Warehouses made once, and one headless Chromium for all tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tests.view import world
from tracelab.store.connect import open_reader
from tracelab.view.report import build, select, write


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.small(tmp_path_factory.mktemp("small") / "tracelab.duckdb")


@pytest.fixture(scope="session")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.large(tmp_path_factory.mktemp("large") / "tracelab.duckdb")


@pytest.fixture
def reader(small: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with open_reader(small) as con:
        yield con


@pytest.fixture(scope="session")
def page_file(small: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of `small`, as a file."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    with open_reader(small) as con:
        write(build(con, select(con)), path)
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser; tests that need it are skipped where there is none.

    Not kept for the session: its driver keeps an event loop running in this thread.
    """
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = (shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome"))
    binary = next((path for path in found if path), None)
    if binary is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    with api.sync_playwright() as driver:
        # Containers run tests as root, where Chromium's own sandbox cannot.
        browser = driver.chromium.launch(executable_path=binary, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any, page_file: Path) -> Iterator[Callable[..., Any]]:
    """Open the report; whatever it says on the console, asks the network for or pops up fails."""
    contexts: list[Any] = []
    wrong: list[str] = []

    def go(
        address: str = "", *, width: int = 1440, scheme: str = "light", file: Path | None = None
    ) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": 850}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        url = (file or page_file).as_uri()
        page.on("console", lambda m: wrong.append(f"console: {m.text}"))
        page.on("pageerror", lambda e: wrong.append(f"error: {e}"))
        page.on("dialog", lambda d: (wrong.append(f"dialog: {d.message}"), d.dismiss()))
        page.on("request", lambda r: r.url.split("#")[0] == url or wrong.append(f"asks {r.url}"))
        page.goto(url + address)
        return page

    go.wrong = wrong  # type: ignore[attr-defined]  # for what a test does wrong on purpose
    yield go
    for context in contexts:
        context.close()
    assert wrong == []
