"""What a run says while it works: a live bar on a terminal, plain lines anywhere else.

    rollouts, round 2: 128/512 rollouts, 5,120 tok/s, cache 74%, 3 failed (died 2, overlong 1),
    0:20 left; 41/96 sentences decided, 62 % of samples recycled

Every figure says what it counts. Something moves at least every ten seconds: where no answer came,
what is waited for and since when. Everything goes to stderr; stdout is for data.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TimeElapsedColumn
from rich.text import Text

from tracelab.core.item import Observation
from tracelab.core.secrets import redacted
from tracelab.engines.base import Counters
from tracelab.text.clean import clean

_PLAIN_SECONDS = 10.0
_LOOK_SECONDS = 0.25
_QUIET_SECONDS = 5.0  # without an answer; then it is said what is waited for
_NARROW = 100  # columns below which the bar gives way to the figures
_BAR = 20
_ELAPSED = 8
_LEAST = 24
_KINDS = 3
_NOUNS = {
    "generate": "generations",
    "score": "scoring passes",
    "look": "looks inside the model",
    "chat": "replies",
    "rerun": "re-executions",
    "grade": "gradings",
    "act": "environment steps",
}


def noun_of(kind: str, stage: str = "") -> str:
    """What people call requests of a kind; continuations of a trace are rollouts."""
    if kind == "generate" and stage.startswith("rollouts"):
        return "rollouts"
    return _NOUNS.get(kind, "answers")


class _Count:
    """Requests of one kind: how many, answered, answered just now rather than before."""

    __slots__ = ("done", "fresh", "noun", "total")

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.total = self.done = self.fresh = 0

    @property
    def owed(self) -> int:
        return max(self.total - self.done, 0)


class _Facts(ProgressColumn):
    """The figures of what is going on, as of now; of what is over, as they were at its end."""

    max_refresh = None

    def __init__(self, progress: RunProgress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        text = self._progress.facts_of(task.id)
        return Text(task.fields["facts"] if text is None else text, no_wrap=True)


class _Name(ProgressColumn):
    """What is going on; cut where the terminal is too narrow for it."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        return Text(task.description, no_wrap=True, overflow="ellipsis")


class RunProgress:
    """Progress of one stage at a time."""

    def __init__(
        self,
        console: Console | None = None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.monotonic,
        by_itself: bool = True,
    ) -> None:
        """Create it.

        Args:
            console: Where to; stderr by default.
            quiet: Say nothing but warnings.
            clock: Gives seconds.
            by_itself: Also speak while nobody calls it, from a thread.
        """
        # In a notebook, too, lines of text: rich would show each as an output of its own.
        self.console = console or Console(stderr=True, force_jupyter=False)
        self._quiet = quiet
        self._clock = clock
        self._live = self.console.is_terminal and not quiet
        self._wide = self.console.width >= _NARROW
        self._bar = Progress(
            _Name(),
            *([BarColumn(bar_width=_BAR)] if self._wide else []),
            _Facts(self),
            TimeElapsedColumn(),
            console=self.console,
            disable=not self._live,
        )
        self._task: TaskID | None = None
        self._announced: set[str] = set()
        self._name = self._doing = ""
        self._counts: dict[str, _Count] = {}
        self._asked: Mapping[str, int] = {}
        self._tokens = 0
        self._totals: Callable[[], Counters] = Counters
        self._before = Counters()
        self._errors: Counter[str] = Counter()
        self._fact = ""
        self._began = self._spoke = self._heard = self._clock()
        self._soon: str | None = None
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="progress", daemon=True)
        self._by_itself = by_itself

    def __enter__(self) -> RunProgress:
        if self._live:
            self._bar.start()
        if self._by_itself:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        if self._by_itself:
            self._thread.join()
        self._say_soon()
        self._bar.stop()

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self.tick()

    def tick(self) -> None:
        """Speak if it is time to; called often, by a thread of its own."""
        self._say_soon()
        with self._lock:
            now = self._clock()
            if self._live or self._quiet or not (self._name or self._doing):
                return
            if now - self._spoke >= _PLAIN_SECONDS:
                self._spoke = now
                self.say(self._line(now))

    def say(self, text: str) -> None:
        """One line for a person."""
        if not self._quiet:
            self._print(text)

    def warn(self, text: str) -> None:
        """One line that is shown even when quiet."""
        self._print(text, style="yellow")

    def warn_soon(self, text: str) -> None:
        """As `warn`, in a moment: for who may not print, such as the handler of a signal."""
        self._soon = text

    def _say_soon(self) -> None:
        text, self._soon = self._soon, None
        if text is not None:
            self.warn(text)

    def _print(self, text: str, style: str | None = None) -> None:
        # What is said may quote a trace.
        soft = not self.console.is_terminal  # what is piped is cut by whoever reads it
        self.console.print(Text(clean(redacted(text)), style=style or ""), soft_wrap=soft)

    def doing(self, text: str) -> None:
        """Say what is being done that has no count; on no terminal, once it takes long."""
        with self._lock:
            self._close_task()
            self._doing = text
            self._began = self._spoke = self._clock()
            if self._live:
                self._task = self._bar.add_task(clean(text), total=None, facts="")

    def engine(self, totals: Callable[[], Counters]) -> None:
        """Ask somebody what engines have done so far, whenever that is to be shown."""
        with self._lock:
            self._totals, self._before = totals, Counters()
            self._resume()

    def stage(self, name: str, total: int, done: int, kind: str) -> None:
        """Say that a stage asks for `total` more requests, `done` of which the journal has.

        Stages of different traces overlap: what is still owed of others counts on, and a stage
        that was announced before goes on without being announced again.
        """
        noun = noun_of(kind, name)
        with self._lock:
            owed = any(c.owed for c in self._counts.values())
            known = name in self._announced
            self._announced.add(name)
            if not (known or owed):
                self._close_task()
                self._counts, self._tokens = {}, 0
                self._errors.clear()
                self._before = self._totals()
                self._began = self._spoke = self._heard = self._clock()
            self._name = name
            count = self._counts.setdefault(noun, _Count(noun))
            count.total, count.done = count.total + total, count.done + done
            if self._live:
                if self._task is None or self._doing:
                    self._resume()
                self._update()
            elif not known:
                reused = f", {done:,} already in the journal" if done else ""
                self.say(f"{name}: {total:,} {noun}{reused}{self._study()}")
            self._doing = ""

    def _resume(self) -> None:
        """Go on with the stage, if there is one, after something that had no count."""
        self._close_task()
        self._doing = ""
        self._began = self._heard = self._clock()
        for c in self._counts.values():
            c.fresh = 0
        if self._live and self._counts:
            if self._fact:
                self.say(self._fact)
            self._task = self._bar.add_task(clean(self._name), total=None, facts="")
            self._update()

    def _update(self) -> None:
        if self._task is not None:
            counts = self._counts.values()
            self._bar.update(
                self._task, description=clean(self._name), total=sum(c.total for c in counts),
                completed=sum(c.done for c in counts),
            )  # fmt: skip

    def _close_task(self) -> None:
        """What is over keeps its last figures; what had none leaves no line."""
        if self._task is None:
            return
        task, self._task = self._task, None
        if self._doing or not any(c.fresh for c in self._counts.values()):
            self._bar.remove_task(task)
        else:
            self._bar.update(task, facts=self._fitting(self._clock(), ended=True))
            self._bar.stop_task(task)

    def fact(self, text: str) -> None:
        """Say how far the study is, in a few words: shown beside what is going on."""
        self._fact = text

    def waiting(self, asked: Mapping[str, int]) -> None:
        """Say how many answers of each kind are waited for."""
        self._asked = dict(asked)

    def advance(self, batch: Sequence[Observation], kind: str) -> None:
        """Report answers, failed ones too."""
        with self._lock:
            self._heard = now = self._clock()
            # The stage that asked is not known: its noun is, unless two have the same kind.
            named = (noun_of(kind), "rollouts") if kind == "generate" else (noun_of(kind),)
            nouns = [n for n in named if n in self._counts]
            count = next((c for n in nouns if (c := self._counts[n]).owed), None)
            if count is None:
                noun = nouns[0] if nouns else noun_of(kind, self._name)
                count = self._counts.setdefault(noun, _Count(noun))
            count.done += len(batch)
            count.total = max(count.total, count.done)
            count.fresh += len(batch)
            self._tokens += sum(len(o.token_ids) for o in batch)
            self._errors.update(o.error.partition(":")[0] for o in batch if o.error is not None)
            if self._live:
                self._update()
            elif now - self._spoke >= _PLAIN_SECONDS:
                self._spoke = now
                self.say(self._line(now))

    def facts_of(self, task: TaskID) -> str | None:
        """The figures of what is going on; None for what is over."""
        with self._lock:
            if task != self._task:
                return None
            return "" if self._doing else self._fitting(self._clock())

    def _line(self, now: float) -> str:
        if self._doing:
            return f"{self._doing} ... {_clock(now - self._began)}"
        return f"{self._name}: {', '.join(t for _, t in self._facts(now))}{self._study()}"

    def _fitting(self, now: float, *, ended: bool = False) -> str:
        """The figures that there is room for."""
        room = self.console.width - _ELAPSED - len(clean(self._name)) - 2
        room = max(room - (_BAR + 1 if self._wide else 0), _LEAST)
        facts = [f for f in self._facts(now) if not (ended and f[0] == _WAITING)]
        while len(facts) > 1 and len(", ".join(t for _, t in facts)) > room:
            facts.remove(max(facts, key=lambda f: f[0]))
        return ", ".join(t for _, t in facts)

    def _facts(self, now: float) -> list[tuple[int, str]]:
        """How far the stage is: counts, speed, cache, errors by kind, time left, what is awaited.

        Returns:
            Each with its rank: those of a higher one go first where there is no room.
        """
        counts = [c for c in self._counts.values() if c.total]
        until = now if any(c.owed for c in counts) else self._heard
        seconds = max(until - self._began, 1e-9)
        parts = [(_COUNTS, f"{c.done:,}/{c.total:,} {c.noun}") for c in counts]
        parts += [(_RATE, rate) for rate in self._rates(seconds)]
        totals = self._totals()
        if totals.prompt_tokens and totals.cached_tokens:
            parts.append((_CACHE, f"cache {totals.cached_tokens / totals.prompt_tokens:.0%}"))
        if self._errors:
            kinds = ", ".join(f"{clean(k)} {n:,}" for k, n in self._errors.most_common(_KINDS))
            parts.append((_FAILED, f"{self._errors.total():,} failed ({kinds})"))
        left = [c.owed * seconds / c.fresh for c in counts if c.owed and c.fresh]
        if left:
            parts.append((_LEFT, f"{_clock(max(left))} left"))
        since = now - self._heard
        if since >= _QUIET_SECONDS:
            parts.append((_WAITING, self._awaited(_clock(since))))
        return parts

    def _rates(self, seconds: float) -> list[str]:
        """Tokens a second, written or read; answers a second where engines tell neither."""
        now, before = self._totals(), self._before
        written = max(
            now.written_tokens - before.written_tokens,
            now.generated_tokens - before.generated_tokens,
            self._tokens,
        )
        if written > 0:
            return [f"{_rate(written / seconds)} tok/s"]
        if (read := now.prompt_tokens - before.prompt_tokens) > 0:
            return [f"{_rate(read / seconds)} tok/s read"]
        fresh = [c for c in self._counts.values() if c.fresh]
        return [f"{_rate(c.fresh / seconds)} {c.noun}/s" for c in fresh[:1]]

    def _awaited(self, since: str) -> str:
        asked = {k: n for k, n in self._asked.items() if n > 0}
        if not any(c.owed for c in self._counts.values()) or not asked:
            return f"working out the results for {since}"
        many = ", ".join(f"{n:,} {noun_of(k, self._name)}" for k, n in asked.items())
        return f"waiting {since} for {many}"

    def _study(self) -> str:
        return f"; {self._fact}" if self._fact else ""


_COUNTS, _WAITING, _FAILED, _LEFT, _RATE, _CACHE = range(6)


def _rate(value: float) -> str:
    """`5,120`, `3.4`, `0.05`: never 0 for what is not."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _clock(seconds: float) -> str:
    """`0:09`, `12:30`, `3:04:05`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
