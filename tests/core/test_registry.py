"""Registries: what they find, what they refuse, and that asking them is cheap."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tracelab.core.errors import ConfigError
from tracelab.core.registry import Registry

HEAVY = [
    "torch", "vllm", "ray", "duckdb", "transformers", "pyarrow", "pandas", "httpx", "sklearn",
    "click", "rich",
]  # fmt: skip
REGISTRIES = [
    ("tracelab.core.study", "STUDIES"),
    ("tracelab.engines.registry", "ENGINES"),
    ("tracelab.environments.registry", "ENVIRONMENTS"),
    ("tracelab.grading.registry", "OUTCOMES"),
    ("tracelab.sources.registry", "SOURCES"),
]


@pytest.mark.parametrize(("module", "name"), REGISTRIES)
def test_asking_a_registry_imports_nothing_heavy(module: str, name: str) -> None:
    # What reads contexts cuts them as their study does, which has its statistics beside it.
    heavy = HEAVY if name in ("STUDIES", "SOURCES") else [*HEAVY, "scipy"]
    code = (
        f"import sys\nfrom {module} import {name}\n"
        f"assert len({name}) > 1 and not {name}.broken\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (out.stdout.strip(), out.returncode) == ("[]", 0), out.stderr


def package(folder: Path, name: str, **modules: str) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(
        "from tracelab.core.registry import Registry\n"
        f"THINGS = Registry('thing', package='{name}', group='none.such')\n"
    )
    for module, text in modules.items():
        (folder / name / f"{module}.py").write_text(text)


def test_files_of_its_folder_register_themselves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = "from things_a import THINGS\n@THINGS.register({name!r}, order={order})\nclass X: ...\n"
    package(
        tmp_path, "things_a",
        a=one.format(name="last", order=9), b=one.format(name="first", order=1), c="",
    )  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)
    from things_a import THINGS  # type: ignore[import-not-found]

    assert "things_a.a" not in sys.modules  # nothing is imported before somebody asks
    assert list(THINGS) == ["first", "last"]
    assert THINGS.named("first").__module__ == "things_a.b"
    with pytest.raises(
        ConfigError, match='`x` = "frist": there is no such thing; did you mean \'fi'
    ):
        THINGS.named("frist", "x")


def test_a_broken_file_of_its_own_is_told_every_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path, "things_b", a="raise RuntimeError('broken')")
    monkeypatch.syspath_prepend(tmp_path)
    from things_b import THINGS  # type: ignore[import-not-found]

    for _ in range(2):
        with pytest.raises(RuntimeError, match="broken"):
            list(THINGS)


def test_a_broken_package_of_others_takes_nobody_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "others_thing.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    entry = metadata.EntryPoint("theirs", "others_thing", "test.things")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [entry])
    things: Registry[type] = Registry("thing", package=None, group="test.things")
    things.register("ours")(int)
    assert list(things) == ["ours"]
    [(who, why)] = things.broken.items()
    assert "theirs" in who and "not_installed_anywhere" in why
    with pytest.raises(ConfigError, match="theirs cannot be imported: ModuleNotFoundError"):
        things.named("theirs")


def test_a_name_is_taken_once_but_a_cell_may_run_twice() -> None:
    things: Registry[type] = Registry("thing", package=None, group="none.such")

    def cell() -> type:
        class Mine: ...

        return Mine

    things.register("mine")(cell())
    second = cell()
    things.register("mine")(second)  # the same class, defined again
    assert things.named("mine") is second
    with pytest.raises(ValueError, match="two things are called 'mine'"):
        things.register("mine")(int)
