"""Today's numbers: small studies with fixed seeds give what was recorded of them.

`python -m tests.snapshot.record` records anew; `pinned.py` says what is run and read. Only outer
surfaces are used: `tracelab run`, and SQL on the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snapshot.pinned import DATABASE, STUDIES
from tests.snapshot.warehouse import command, differences, read, recorded, run_study, workers

MARKED = [
    pytest.param(
        name,
        marks=[
            *([pytest.mark.engine] if study.needs_vllm else []),
            *([pytest.mark.long] if study.config["model"] != "scripted" else []),
        ],
    )
    for name, study in STUDIES.items()
]


@pytest.fixture(scope="module", params=MARKED)
def study(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with workers():
        yield


@pytest.fixture(scope="module")
def home(
    study: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The home of a study that has been run, once for all tests."""
    if STUDIES[study].config["model"] != "scripted":
        request.getfixturevalue("ray")
    return run_study(study, tmp_path_factory.mktemp(study))


@pytest.mark.timeout(600)
def test_the_numbers_are_what_they_were(study: str, home: Path) -> None:
    if found := differences(study, recorded(study), read(home)):
        pytest.fail("\n".join([f"{study} gives other numbers.", *found]), pytrace=False)


def test_a_rebuild_from_the_journal_gives_the_same_numbers(study: str, home: Path) -> None:
    """The journal alone holds all of them: that is what it is for."""
    (home / DATABASE).unlink()
    command(0, "rebuild", "--home", home)
    command(0, "check", "--home", home)
    if found := differences(study, recorded(study), read(home)):
        pytest.fail("\n".join([f"{study}, rebuilt, has other numbers.", *found]), pytrace=False)
