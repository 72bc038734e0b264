"""Every command says how it is used, its examples are true, and `docs/cli.md` is what it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tests.helpers import invoke, rows, write_config, write_jsonl
from tests.studies.audit.test_audit_command import who_and_when
from tracelab.cli import main
from tracelab.engines.scripted import Script

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"
HEAD = """# Commands

Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage, config, model
or input, 3 done with more errors than `--max-error-rate`, 4 warehouse locked, 130 interrupted.

This page is what `--help` says, written by `TRACELAB_REWRITE=1 pytest tests/cli/test_help.py`.
"""


def walk(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it, groups before what is in them."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from walk(sub, (*path, name))


COMMANDS = list(walk(main))
NAMES = [" ".join(path) or "tracelab" for path, _ in COMMANDS]


def examples(command: click.Command) -> list[str]:
    """Lines of its help that can be typed; a line that ends in a backslash or bar goes on."""
    text = re.sub(r"(\\|\|)\n\s*", r"\1 ", command.help or "").replace("\\ ", " ")
    return [line.strip() for line in re.findall(r"^\s+((?:echo .*\| *)?tracelab .+)$", text, re.M)]


def words(line: str) -> list[str]:
    """The arguments of the last tracelab on a line, without redirections and what a shell does."""
    found = shlex.split(line.rpartition("tracelab ")[2])
    return found[: next((i for i, w in enumerate(found) if w in (">", ">>")), len(found))]


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=NAMES)
def test_every_help_has_an_example_that_parses(
    path: tuple[str, ...], command: click.Command
) -> None:
    result = invoke(*path, "--help")
    assert result.exit_code == 0
    if not path:
        return  # its lines are a table of commands
    assert "Example" in result.stdout
    assert examples(command)
    for line in examples(command):
        args = words(line)
        node: click.Command = main
        context = click.Context(main, **main.context_settings)
        while isinstance(node, click.Group):
            name, *args = args
            found = node.get_command(context, name)
            assert found is not None
            node = found
            context = node.make_context(name, list(args), parent=context)
        assert path == tuple(words(line)[: len(path)])


CHEAP = (
    "query", "schema", "check", "export", "rebuild", "report", "doctor", "completion", "ingest",
    "anchors", "audit", "grounding",
)  # fmt: skip
SKIPPED = {
    "audit testbed --environment testbed --dtype float32 --max-tokens 64": "runs vLLM",
    "anchors testbed --model testbed --target-halfwidth 0.1 --budget-tokens 200k": "runs vLLM",
}


def test_the_cheap_examples_run(
    home: Path, tmp_path: Path, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder with the files they name, after a run called demo."""
    monkeypatch.chdir(tmp_path)
    opened: list[str] = []
    monkeypatch.setattr(click, "launch", lambda url: opened.append(url) or 0)
    source = write_jsonl(tmp_path / "my.jsonl", script, 2)
    who_and_when(tmp_path / "logs", 2)
    config = write_config(tmp_path / "c.toml", source, anchors="rollouts = 2")
    assert invoke("run", config, "--set", "name=demo", "--quiet").exit_code == 0
    ran = 0
    for path, command in COMMANDS:
        if not path or path[0] not in CHEAP:
            continue
        for line in examples(command):
            said = line.partition("tracelab ")[2]
            if said in SKIPPED or re.search("--endpoint|my_module", said):
                continue
            args = ["testbed" if w == "DIR" else w for w in words(line)]
            piped = re.match(r'echo "(.*?)" \|', line)
            result = invoke(*args, stdin=piped[1] if piped else None)
            assert result.exit_code == 0, (line, result.stderr)
            ran += 1
    assert ran >= 15
    assert opened and opened[0].startswith("file://")
    [trace] = rows("select trace_id from traces where run_id = 'demo' limit 1")
    assert invoke("show", trace["trace_id"][:6], "--run", "demo").exit_code == 0


def complete(words: str, at: int) -> list[str]:
    """What bash would offer after these words."""
    done = subprocess.run(
        [sys.executable, "-c", "from tracelab.cli import main; main(prog_name='tracelab')"],
        env={**os.environ, "_TRACELAB_COMPLETE": "bash_complete", "COMP_WORDS": words,
             "COMP_CWORD": str(at)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_shells_complete_commands_options_and_names() -> None:
    assert complete("tracelab an", 1) == ["anchors"]
    assert "--target-halfwidth" in complete("tracelab anchors --ta", 2)
    assert complete("tracelab query top_a", 2) == ["top_anchors"]
    assert "--opinion" in complete("tracelab audit --op", 2)
    assert "cite/demo" in complete("tracelab run ci", 2)
    for shell, says in (
        ("bash", "complete -o"),
        ("zsh", "#compdef tracelab"),
        ("fish", "complete"),
    ):
        script = invoke("completion", shell)
        assert script.exit_code == 0
        assert says in script.stdout and "_TRACELAB_COMPLETE" in script.stdout
    assert invoke("completion", "cmd").exit_code == 2


def test_the_page_of_commands_is_what_help_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rewrites it instead when TRACELAB_REWRITE is set."""
    monkeypatch.setenv("COLUMNS", "80")
    parts = [HEAD]
    for path, _ in COMMANDS:
        name = " ".join(("tracelab", *path))
        shown = invoke(*path, "--help").stdout.replace("Usage: main", "Usage: tracelab")
        parts.append(f"\n## `{name}`\n\n```\n{shown.rstrip()}\n```\n")
    fresh = "".join(parts)
    if os.environ.get("TRACELAB_REWRITE"):
        DOCS.write_text(fresh, encoding="utf-8")
        return
    assert fresh == DOCS.read_text(encoding="utf-8"), "run it with TRACELAB_REWRITE=1, commit docs"
