"""Configs: every committed one parses; every mistake is one sentence that names it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tracelab.core.errors import ConfigError
from tracelab.run.config import load_config, parse_config

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.toml"))
MINIMAL = {"name": "a", "source": "testbed", "model": "testbed"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)))
def test_committed_configs_parse(path: Path) -> None:
    load_config(path)


def test_there_are_configs() -> None:
    assert any(p.name == "demo.toml" for p in CONFIGS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sorce": "x"}, "unknown key `sorce`; did you mean `source`?"),
        ({"anchors": {"rolouts": 5}}, "unknown key `anchors.rolouts`; did you mean `rollouts`?"),
        ({"engine": {"kind": "vlm"}}, '`engine.kind` = "vlm"'),
        ({"anchors": {"rollouts": 0}}, "`anchors.rollouts` = 0: input should be greater"),
        ({"name": "../../etc"}, "`name`"),
        ({"sampling": 3}, "`sampling` = 3"),
    ],
)
def test_mistakes_are_named(change: dict, says: str) -> None:
    with pytest.raises(ConfigError) as e:
        parse_config({**MINIMAL, **change}, "x.toml")
    assert str(e.value).startswith("x.toml: ")
    assert says in str(e.value)
    assert "\n" not in str(e.value)


def test_a_section_under_both_its_names_is_refused() -> None:
    both = {"resample": {"rollouts": 5}, "anchors": {"level": 0.9}}
    with pytest.raises(ConfigError, match="x.toml: `resample` is the old name of `anchors`"):
        parse_config({**MINIMAL, **both}, "x.toml")


def test_missing_key_is_named() -> None:
    with pytest.raises(ConfigError, match="`model` is missing"):
        parse_config({"name": "a", "source": "b"}, "x.toml")


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"name = ", "not valid TOML"), (b"\xff\xfe", "not UTF-8"), (None, "no such config file")],
)
def test_unreadable_files(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_config(path)


def test_overrides(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('name = "a"\nsource = "s"\nmodel = "m"\n')
    config = load_config(path, ["anchors.rollouts=7", "source=my file.jsonl", "seed=3"])
    assert (config.anchors.rollouts, config.source, config.seed) == (7, "my file.jsonl", 3)
    with pytest.raises(ConfigError, match="key=value"):
        load_config(path, ["rollouts"])
    with pytest.raises(ConfigError, match="is a value, not a section"):
        load_config(path, ["source.x=1"])


def test_identity_ignores_machine_settings_and_more_rollouts() -> None:
    a = parse_config(MINIMAL, "x")
    more = {"anchors": {"rollouts": 7}, "engine": {"replicas": 3}, "runtime": {"in_flight": 2}}
    assert parse_config({**MINIMAL, **more}, "x").digest == a.digest
    assert parse_config({**MINIMAL, "seed": 1}, "x").digest != a.digest
    told = {"engine": {"template_options": {"enable_thinking": False}}}
    assert parse_config({**MINIMAL, **told}, "x").digest != a.digest
    assert parse_config({**MINIMAL, "sampling": {"top_p": 0.5}}, "x").digest != a.digest
