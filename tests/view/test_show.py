"""`tracelab report` and `tracelab show` as their user types them."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.cells import cell_len
from rich.console import Console

from tracelab.cli.report import report, show
from tracelab.store.connect import open_reader
from tracelab.view.output import signed
from tracelab.view.show import show_trace


@pytest.fixture
def place(small: Path) -> str:
    return str(small.parent)


def invoke(command: object, *args: str, **env: str) -> Result:
    result = CliRunner().invoke(command, args, env=env, catch_exceptions=False)  # type: ignore[arg-type]
    assert "Traceback" not in result.output
    return result


def terminal(small: Path, name: str, width: int = 100, **options: object) -> str:
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=True, width=width, markup=False, emoji=False, highlight=False,
        color_system="truecolor", **options,  # type: ignore[arg-type]
    )  # fmt: skip
    with open_reader(small) as con:
        show_trace(con, name, None, None, console)
    return out.getvalue()


def test_piped_it_is_one_plain_line_a_sentence(place: str) -> None:
    said = invoke(show, "kale", "--home", place).stdout
    lines = said.splitlines()
    assert "\x1b" not in said
    assert "1  -0.40  [-0.50, -0.30]    n=40    *!  I will halve it." in lines
    assert "3    n/m                    n=3         Fine." in lines
    assert "answer: 7; reference: 7" in lines


def test_on_a_terminal_the_tint_grows_with_the_effect(small: Path) -> None:
    said = terminal(small, "kale")
    assert "\x1b[38;2;20;23;27;48;2;240;160;90mI will halve it.\x1b[0m" in said  # the largest
    weak = said.split("Nothing here.")[0].rsplit("\x1b[", 1)[1]
    assert weak.startswith("38;2;20;23;27;48;2;2")
    assert not weak.endswith("48;2;120;172;230m")  # it is not as strong
    assert "\x1b[2mFine." in said  # not measured: no colour


def test_no_color_is_respected(small: Path) -> None:
    said = terminal(small, "kale", no_color=True)
    assert "38;2" not in said
    assert "48;2" not in said
    assert "-0.40" in said


@pytest.mark.parametrize("of_a_terminal", [True, False])
def test_hostile_text_moves_nothing(small: Path, place: str, of_a_terminal: bool) -> None:
    if of_a_terminal:
        said = terminal(small, "bbbb00", no_color=True)
        assert "\ufffd[31mred\ufffd[0m" in said
        said = re.sub("\x1b\\[[0-9;]*m", "", said)  # our own
    else:
        said = invoke(show, "bbbb00", "--home", place).stdout
    assert not {"\x1b", "\x00", "\u202e", "\u202c"} & set(said)
    assert "<script>alert(1)</script>" in said
    assert "(100,001characters)" in re.sub(r"\s", "", said)  # in a column it is folded


def test_contexts_and_agents_are_shown(place: str) -> None:
    context = invoke(show, "ctx", "--home", place).stdout
    assert "0  grounded      Kale costs 4." in context
    assert "<- +4.00 [+3.70, +4.30] Kale costs 4." in context
    assert "2  insufficient  Nobody knows.\n                   <- not measured" in context
    agent = invoke(show, "run1", "--home", place).stdout
    assert "2  -0.70  [-0.80, -0.60]    n=20        coder: Now halve it." in agent
    assert "verdict (step, evidence: executed): localized, step 2 by coder" in agent
    assert "evidence: judged" not in agent, "an opinion is no verdict"
    assert agent.index("evidence: executed") < agent.index("opinions of models")


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nosuch"], "there is no trace 'nosuch'"),
        (["kale", "--run", "other"], "there is no run 'other'"),
        (
            ["kale", "--method", "force"],
            "'force'; there are: resample, resample-pooled",
        ),
    ],
)
def test_what_is_not_there_is_one_sentence(place: str, args: list[str], says: str) -> None:
    result = invoke(show, *args, "--home", place)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_report_prints_where_it_went(place: str, tmp_path: Path) -> None:
    out = tmp_path / "new" / "r.html"
    result = invoke(report, "kale", "--out", str(out), "--home", place)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{out}\n"
    assert "1 trace, " in result.stderr
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in out.parent.iterdir()] == ["r.html"]
    usual = invoke(report, "--home", place, "--max-traces", "2")
    assert usual.stdout == f"{Path(place) / 'reports' / 'study.html'}\n"
    assert "2 left out" in usual.stderr


def test_report_of_nothing_is_one_sentence(place: str, tmp_path: Path) -> None:
    unknown = invoke(report, "nosuch", "--home", place)
    assert unknown.exit_code == 2
    assert "no run and no trace 'nosuch'" in unknown.stderr
    empty = invoke(report, "--home", str(tmp_path / "empty"))
    assert empty.exit_code == 1
    assert "there is no warehouse" in empty.stderr
    (tmp_path / "file").write_text("")
    blocked = invoke(report, "--home", place, "--out", str(tmp_path / "file" / "r.html"))
    assert blocked.exit_code == 1
    assert len(blocked.stderr.splitlines()) <= 2


def test_a_plain_minus_for_programs() -> None:
    assert [signed(x) for x in (0.314, -0.05, -0.001, None)] == ["+0.31", "-0.05", "0.00", "n/m"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_wider_than_the_terminal(small: Path, width: int) -> None:
    with open_reader(small) as con:
        names = [name for (name,) in con.execute("SELECT name FROM traces").fetchall()]
    for name in names:
        shown = re.sub(r"\x1b\[[\d;]*m", "", terminal(small, name, width))
        assert max(map(cell_len, shown.splitlines())) <= width, name
