"""What a run says while it works: every figure, on any terminal, and plain where there is none."""

from __future__ import annotations

import io
import re
import threading

import pytest
from rich.console import Console

from tracelab.core.item import Observation
from tracelab.engines.base import Counters
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
    with RunProgress(console, clock=clock, by_itself=False, **options) as progress:
        progress.fact("41/96 sentences decided, 62% of samples recycled")
        progress.stage("rollouts, round 2", 100, 20, "generate")
        progress.engine(lambda: Counters(prompt_tokens=1_000, cached_tokens=740))
        failed = [*batch(2, "died: gone"), *batch(1, "over\x1b[2Jlong: 9 > 8")]
        clock.now += 4
        progress.advance([*batch(17), *failed], "generate")
        clock.now += 20
        progress.advance(batch(20), "generate")
    return progress


def test_piped_it_is_plain_lines_with_every_figure() -> None:
    out = io.StringIO()
    played(Console(file=out, width=60))
    first, last = out.getvalue().splitlines()  # the second batch came soon after the first
    study = "; 41/96 sentences decided, 62% of samples recycled"
    assert first == f"rollouts, round 2: 100 rollouts, 20 already in the journal{study}"
    assert last == (
        "rollouts, round 2: 60/100 rollouts, 15 tok/s, cache 74%, "
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
        for figure in ("60/100 rollouts", "15 tok/s", "cache 74%", "3 failed", "0:24 left"):
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
    with RunProgress(Console(file=out, width=80), clock=clock, by_itself=False) as progress:
        for _ in range(30):
            progress.stage("re-executions", 10, 2, "rerun")
            clock.now += 1
            progress.advance(batch(8), "rerun")
        progress.stage("evidence", 5, 0, "score")
    said = out.getvalue().splitlines()
    assert said[0] == "re-executions: 10 re-executions, 2 already in the journal"
    assert said[1].startswith("re-executions: 100/100 re-executions")
    assert said[2].startswith("re-executions: 200/200 re-executions")
    assert len(said) == 5 and said[-1] == "evidence: 5 scoring passes"


def test_two_kinds_of_requests_are_never_one_count() -> None:
    """Re-executions ask for generations of their own."""
    out, clock = io.StringIO(), Clock()
    with RunProgress(Console(file=out, width=80), clock=clock, by_itself=False) as progress:
        progress.stage("re-executions", 4, 0, "rerun")
        progress.stage("re-executions", 12, 0, "generate")
        clock.now += 11
        progress.advance(batch(3), "generate")
    assert (
        out.getvalue()
        .splitlines()[-1]
        .startswith("re-executions: 0/4 re-executions, 3/12 generations, ")
    )


def test_while_nothing_comes_it_says_what_it_waits_for_and_how_fast_it_is_written() -> None:
    out, clock, totals = io.StringIO(), Clock(), Counters()
    with RunProgress(Console(file=out, width=80), clock=clock, by_itself=False) as progress:
        progress.doing("starting vllm for m")
        clock.now += 12
        progress.tick()
        progress.stage("rollouts, round 1", 8, 0, "generate")
        progress.engine(lambda: totals)
        progress.waiting({"generate": 8})
        for _ in range(4):
            clock.now += 4
            totals.written_tokens += 200
            progress.tick()
        progress.advance(batch(8), "generate")
        clock.now += 11
        progress.tick()
    said = out.getvalue().splitlines()
    assert said == [
        "starting vllm for m ... 0:12",
        "rollouts, round 1: 8 rollouts",
        "rollouts, round 1: 0/8 rollouts, 50 tok/s, waiting 0:12 for 8 rollouts",
        "rollouts, round 1: 8/8 rollouts, 50 tok/s, working out the results for 0:11",
    ]


def test_a_rate_is_never_zero_while_work_is_done() -> None:
    out, clock = io.StringIO(), Clock()
    with RunProgress(Console(file=out, width=80), clock=clock, by_itself=False) as progress:
        progress.stage("judges", 10, 0, "chat")
        clock.now += 40
        progress.advance(batch(2, error="x"), "chat")
    assert "2/10 replies, 0.05 replies/s" in out.getvalue()


def test_a_thread_speaks_while_everybody_is_busy() -> None:
    class Soon(Clock):
        def __call__(self) -> float:
            self.now += 6
            return self.now

    heard = threading.Event()

    class Out(io.StringIO):
        def write(self, text: str) -> int:
            if "waiting" in text:
                heard.set()
            return super().write(text)

    with RunProgress(Console(file=Out(), width=80), clock=Soon()) as progress:
        progress.stage("looks", 1, 0, "look")
        progress.waiting({"look": 1})
        assert heard.wait(60)
