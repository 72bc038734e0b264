"""What a run says while it works: a live bar on a terminal, plain lines anywhere else.

Everything goes to stderr; stdout is for data.
"""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from tracelab.output import clean

_PLAIN_SECONDS = 10.0


class RunProgress:
    """Progress of one stage at a time."""

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        """Create it; `quiet` says nothing but warnings."""
        self.console = console or Console(stderr=True)
        self._quiet = quiet
        self._live = self.console.is_terminal and not quiet
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TextColumn("{task.completed:>7,.0f}/{task.total:,.0f}"),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._task: object = None
        self._name = ""
        self._total = self._done = self._tokens = self._errors = 0
        self._began = self._spoke = 0.0

    def __enter__(self) -> RunProgress:
        if self._live:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """One line for a person."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """One line that is shown even when quiet."""
        self._print(text, style="yellow")

    def _print(self, text: str, style: str | None = None) -> None:
        # What is said may quote a trace.
        self.console.print(Text(clean(text), style=style or ""), soft_wrap=True)

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Begin a stage of `total` rollouts, `done` of which the journal already has."""
        self._name, self._total, self._done = name, total, done
        self._tokens = self._errors = 0
        self._began = self._spoke = time.monotonic()
        if self._live:
            self._task = self._bar.add_task(name, total=total, completed=done, rate="")
        else:
            reused = f", {done:,} already in the journal" if done else ""
            self.say(f"{name}: {total:,} rollouts{reused}")

    def advance(self, rollouts: int, tokens: int, errors: int) -> None:
        """Report finished rollouts."""
        self._done += rollouts
        self._tokens += tokens
        self._errors += errors
        now = time.monotonic()
        rate = f"{self._tokens / max(now - self._began, 1e-9):,.0f} tok/s"
        if self._errors:
            rate += f", {self._errors} failed"
        if self._live:
            self._bar.update(self._task, completed=self._done, rate=rate)  # type: ignore[arg-type]
        elif now - self._spoke > _PLAIN_SECONDS or self._done >= self._total:
            self._spoke = now
            self.say(f"{self._name}: {self._done:,}/{self._total:,} rollouts, {rate}")
