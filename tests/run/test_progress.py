"""What a run says while it works: every figure, on any terminal, and plain where there is none."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from tracelab.core.item import Observation
from tracelab.run.progress import RunProgress


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def batch(n: int, error: str | None = None) -> list[Observation]:
    return [Observation("k", r, () if error else (1,) * 10, error=error) for r in range(n)]


def played(console: Console, **options: bool) -> RunProgress:
    """Four seconds of work: 40 of 100 rollouts, 20 of which the journal had; three failed."""
    clock = Clock()
    with RunProgress(console, clock=clock, **options) as progress:
        progress.fact("41/96 sentences decided, 62% of samples recycled")
        progress.stage("rollouts, round 2", 100, 20)
        clock.now += 4
        progress.cache(1_000, 740)
        progress.advance([*batch(17), *batch(2, "died: gone"), *batch(1, "over\x1b[2Jlong: 9 > 8")])
        clock.now += 20
        progress.advance(batch(20))
    return progress


def test_piped_it_is_plain_lines_with_every_figure() -> None:
    out = io.StringIO()
    played(Console(file=out, width=60))
    first, last = out.getvalue().splitlines()  # the second batch came soon after the first
    study = "; 41/96 sentences decided, 62% of samples recycled"
    assert first == f"rollouts, round 2: 100 rollouts, 20 already in the journal{study}"
    assert last == (
        "rollouts, round 2: 60/100 rollouts, 40 owed, 15 tok/s, cache 74%, "
        f"3 failed (died 2, over\ufffd[2Jlong 1), 0:24 left{study}"
    )


def test_quiet_says_nothing_but_warnings() -> None:
    out = io.StringIO()
    progress = played(Console(file=out), quiet=True)
    assert out.getvalue() == ""
    progress.warn("careful")
    assert out.getvalue() == "careful\n"


@pytest.mark.parametrize("width", [40, 70, 140])
def test_the_bar_fits_the_terminal(width: int) -> None:
    out = io.StringIO()
    console = Console(
        file=out, width=width, force_terminal=True, color_system=None, legacy_windows=False
    )
    played(console)
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", out.getvalue()).replace("\r", "\n")
    assert max(map(len, shown.splitlines())) <= width
    together = " ".join(shown.split())
    if width == 140:
        for figure in ("60/100", "40 owed", "15 tok/s", "cache 74%", "3 failed", "0:24 left"):
            assert figure in together
    assert "60/100" in together


def test_no_color_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    played(Console(file=out, width=140, force_terminal=True))
    assert not re.search(r"\x1b\[[\d;]*3[0-9][\d;]*m|\x1b\[38", out.getvalue())


def test_in_a_notebook_it_is_text_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    RunProgress().say("hello")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "hello\n")


def test_the_turns_of_one_stage_are_one_stage() -> None:
    """An audit asks for a turn of every run at once, many times over."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(Console(file=out, width=80), clock=clock) as progress:
        for _ in range(30):
            progress.stage("re-executions", 10, 2)
            clock.now += 1
            progress.advance(batch(8))
        progress.stage("evidence", 5)
    said = out.getvalue().splitlines()
    assert said[0] == "re-executions: 10 rollouts, 2 already in the journal"
    assert said[1].startswith("re-executions: 110/110 rollouts")
    assert said[2].startswith("re-executions: 220/220 rollouts")
    assert len(said) == 4 and said[-1] == "evidence: 5 rollouts"
