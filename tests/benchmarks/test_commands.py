"""`python -m benchmarks`: what it lists, how each says it is used, what it prints."""

from __future__ import annotations

import ast
import json
import re
import shlex
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import tracelab
from benchmarks.__main__ import main
from benchmarks.anchors import scale
from benchmarks.registry import BENCHMARKS
from benchmarks.testbed import card
from tracelab.testbed import MODEL_DIR

NAMES = list(BENCHMARKS)


def test_without_a_name_it_lists_them_with_one_line_each() -> None:
    shown = CliRunner().invoke(main, [])
    assert shown.exit_code == 0
    listed = re.findall(r"^  ([a-z-]+) {2,}\S", shown.stdout.partition("Commands:")[2], re.M)
    assert listed == NAMES
    for name in ("anchors", "cite", "audit", "overhead", "card", "truth", "train"):
        assert name in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_says_how_it_is_used(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "-h"])
    assert shown.exit_code == 0 and "--json" in shown.stdout
    lines = re.findall(r"^ *python -m benchmarks (.+)$", shown.stdout, re.M)
    assert lines
    for line in lines:
        first, *args = shlex.split(line)
        assert first == name
        main.commands[name].make_context(name, args, parent=click.Context(main))


def test_figures_are_one_json_object_or_lines_for_people(monkeypatch: pytest.MonkeyPatch) -> None:
    for size, value in (("SENTENCES", 20), ("TOKENS", 400), ("ROLLOUTS", 100)):
        monkeypatch.setattr(scale, size, value)
    found = json.loads(CliRunner().invoke(main, ["anchors-scale", "--json"]).stdout)
    assert found["rollouts"] == 100 and len(found["seconds"]) == 7
    shown = CliRunner().invoke(main, ["anchors-scale"]).stdout
    assert "value_curve.fit" in shown and not shown.startswith("{")


def test_a_missed_bar_is_an_exit_code(tmp_path: Path) -> None:
    """A card is rendered from the figures that are there; the verdict is theirs."""
    facts = json.loads((MODEL_DIR / "card.json").read_text())
    (tmp_path / "card.json").write_text(json.dumps(facts))
    rendered = CliRunner().invoke(main, ["card", "--render", "--out", str(tmp_path)])
    assert rendered.exit_code == 0 and "bars hold" in rendered.stdout
    assert (tmp_path / "README.md").read_text() == (MODEL_DIR / "README.md").read_text()
    facts["rows"][0]["passed"] = False
    (tmp_path / "card.json").write_text(json.dumps(facts))
    missed = CliRunner().invoke(main, ["card", "--render", "--out", str(tmp_path), "--json"])
    assert missed.exit_code == 1 and json.loads(missed.stdout) == facts
    assert card.missed(facts)


def test_an_unusable_path_is_one_sentence(tmp_path: Path) -> None:
    none = CliRunner().invoke(main, ["card", "--render", "--out", str(tmp_path / "none")])
    assert none.exit_code == 1 and none.stderr.startswith("tracelab: ")
    assert "Traceback" not in none.stderr


def test_the_package_imports_no_benchmark() -> None:
    for path in Path(tracelab.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [a.name for a in node.names] if isinstance(node, ast.Import)
                else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            )  # fmt: skip
            assert not [n for n in names if n.partition(".")[0] == "benchmarks"], path
