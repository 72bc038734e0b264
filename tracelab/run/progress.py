"""What a run says while it works: a live bar on a terminal, plain lines anywhere else.

    rollouts, round 2: 128/512 rollouts, 384 owed, 5,120 tok/s, cache 74 %, 3 failed (died 2,
    overlong 1), 0:20 left; 41/96 sentences decided, 62 % of samples recycled

Everything goes to stderr; stdout is for data.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from tracelab.core.item import Observation
from tracelab.core.secrets import redacted
from tracelab.text.clean import clean

_PLAIN_SECONDS = 10.0
_NARROW = 100  # columns below which the bar gives way to the figures
_KINDS = 3


class RunProgress:
    """Progress of one stage at a time."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Create it; `quiet` says nothing but warnings. `clock` gives seconds."""
        # In a notebook, too, lines of text: rich would show each as an output of its own.
        self.console = console or Console(stderr=True, force_jupyter=False)
        self._quiet = quiet
        self._clock = clock
        self._live = self.console.is_terminal and not quiet
        wide = self.console.width >= _NARROW
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            *([BarColumn(bar_width=20)] if wide else []),
            TextColumn("{task.fields[facts]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._task: object = None
        self._announced: set[str] = set()
        self._name = ""
        self._total = self._done = self._fresh = self._tokens = 0
        self._prompt = self._cached = 0
        self._errors: Counter[str] = Counter()
        self._fact = ""
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
        soft = not self.console.is_terminal  # what is piped is cut by whoever reads it
        self.console.print(Text(clean(redacted(text)), style=style or ""), soft_wrap=soft)

    def stage(self, name: str, total: int, done: int = 0) -> None:
        """Say that a stage asks for `total` more rollouts, `done` of which the journal has.

        Stages of different traces overlap: what is still owed of others counts on, and a stage
        that was announced before goes on without being announced again.
        """
        owed = max(self._total - self._done, 0)
        known, self._name = name in self._announced, name
        self._announced.add(name)
        if known or owed:
            self._total, self._done = self._total + total, self._done + done
        else:
            self._total, self._done, self._fresh, self._tokens = total, done, 0, 0
            self._errors.clear()
            self._began = self._spoke = self._clock()
        if not self._live:
            if not known:
                reused = f", {done:,} already in the journal" if done else ""
                self.say(f"{name}: {total:,} rollouts{reused}{self._study()}")
            return
        if self._task is not None and (known or owed):
            self._bar.update(
                self._task,  # type: ignore[arg-type]
                description=name, total=self._total, completed=self._done,
            )  # fmt: skip
            return
        if self._fact:
            self.say(self._fact)
        self._task = self._bar.add_task(
            name, total=total, completed=done, facts=self._facts(self._began)
        )

    def fact(self, text: str) -> None:
        """Say how far the study is, in a few words: shown beside what is going on."""
        self._fact = text

    def cache(self, prompt_tokens: int, cached_tokens: int) -> None:
        """Say how many prompt tokens engines have read so far, and how many from their caches."""
        self._prompt, self._cached = prompt_tokens, cached_tokens

    def advance(self, batch: Sequence[Observation]) -> None:
        """Report finished rollouts, failed ones too."""
        self._done += len(batch)
        self._fresh += len(batch)
        self._tokens += sum(len(o.token_ids) for o in batch)
        self._errors.update(o.error.partition(":")[0] for o in batch if o.error is not None)
        now = self._clock()
        if self._live:
            self._bar.update(self._task, completed=self._done, facts=self._facts(now))  # type: ignore[arg-type]
        elif now - self._spoke > _PLAIN_SECONDS:
            self._spoke = now
            self.say(f"{self._name}: {self._facts(now)}{self._study()}")

    def _facts(self, now: float) -> str:
        """How far the stage is: rollouts, speed, cache, errors by kind, time left."""
        seconds = max(now - self._began, 1e-9)
        owed = self._total - self._done
        parts = [f"{self._done:,}/{self._total:,}" + ("" if self._live else " rollouts")]
        if owed:
            parts.append(f"{owed:,} owed")
        if self._fresh:
            parts.append(f"{self._tokens / seconds:,.0f} tok/s")
        if self._prompt:
            parts.append(f"cache {self._cached / self._prompt:.0%}")
        if self._errors:
            kinds = ", ".join(f"{clean(k)} {n:,}" for k, n in self._errors.most_common(_KINDS))
            parts.append(f"{self._errors.total():,} failed ({kinds})")
        if owed and self._fresh:
            parts.append(f"{_clock(owed * seconds / self._fresh)} left")
        return ", ".join(parts)

    def _study(self) -> str:
        return f"; {self._fact}" if self._fact else ""


def _clock(seconds: float) -> str:
    """`0:09`, `12:30`, `3:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
