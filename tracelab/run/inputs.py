"""From a source to the cases of a study: read, answer what has no response yet, cut, write down.

What cannot be studied becomes a reject with a reason. `cases.jsonl` in the journal holds every
trace with its tokens, and every reject: a run that is continued uses the tokens it has (a chat
template may change overnight), and one that is rebuilt needs no source.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import Any, overload

from tracelab.core.errors import DamagedError, ImportFormatError, PlanError, one_line
from tracelab.core.flow import Flow
from tracelab.core.seam import Reject
from tracelab.core.study import Case, StudyContext
from tracelab.core.trace import TokenizedTrace, Trace
from tracelab.engines.made_by import off_policy
from tracelab.run.config import RunConfig
from tracelab.sources import read_last
from tracelab.sources.base import refused
from tracelab.sources.context_testbed import contexts
from tracelab.sources.testbed import NAME as TESTBED
from tracelab.sources.testbed import Questions
from tracelab.store.journal import Journal
from tracelab.store.rows import LoadedTrace
from tracelab.studies.respond import Keep, respond

FILE = "cases.jsonl"
_ABOUT_ONE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)

Ids = Sequence[int]


def entries(journal: Journal) -> Iterator[Reject | tuple[Trace, Ids, Ids, Ids]]:
    """What `cases.jsonl` has.

    Yields:
        Rejects, and traces with the tokens of prompt and response and the characters at which
        those of the response start.

    Raises:
        DamagedError: It is not what was written.
    """
    for row in journal.lines(FILE):
        found: Reject | tuple[Trace, Ids, Ids, Ids]
        try:
            if "reject" in row:
                found = Reject(**row["reject"])
            else:
                prompt, response, starts = row["prompt_ids"], row["response_ids"], row["starts"]
                if not all(isinstance(i, int) for i in (*prompt, *response, *starts)):
                    raise TypeError("a token is not a number")
                found = Trace.from_json(row["trace"]), prompt, response, starts
        except Exception as e:  # one that has no checksum may hold anything
            where = journal.store.path(FILE)
            raise DamagedError(f"{where} is damaged: no trace ({one_line(e, 100)})") from None
        yield found


def _as_is(trace: Trace) -> Trace:
    return trace


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be studied.

    Attributes:
        found: Traces and rejects, in order.
        labelled: Adds what the source knows of a trace once it is answered.
    """

    found: Iterable[Trace | Reject]
    labelled: Callable[[Trace], Trace] = _as_is


def gather(config: RunConfig, kind: str) -> Source:
    """What the source holds.

    Args:
        config: The run's.
        kind: What the testbed is to give, `questions` or `contexts`, where it is the source.

    Raises:
        ImportFormatError: Nothing can be read from it.
    """
    options = config.source_options
    if config.source != TESTBED:
        form = _form_of(config)
        return Source(_taken(read_last(config.source.splitlines(), form, options.columns), config))
    if kind == "contexts":
        hinted = bool(getattr(config.options, "hints", False))
        drawn = contexts(
            options.problems, seed=config.seed, phrasing=options.phrasing, hinted=hinted
        )
        return Source(_taken(drawn, config))
    questions = Questions(options.problems, seed=config.seed, phrasing=options.phrasing)
    return Source(_taken(questions, config), questions.labelled)


def _taken(found: Iterable[Trace | Reject], config: RunConfig) -> Iterator[Trace | Reject]:
    """As many as are wanted, rendered as the options say."""
    options, taken = config.source_options, 0
    for item in found:
        if isinstance(item, Trace):
            if options.limit is not None and taken >= options.limit:
                return
            taken += 1
            if options.rendering != "auto":
                item = replace(item, rendering=options.rendering)
        yield item


def _form_of(config: RunConfig) -> str:
    return config.source_options.format


class Stored:
    """Tokens that an earlier session of the run used, by trace."""

    def __init__(self, journal: Journal, fresh: Callable[[Trace], TokenizedTrace]) -> None:
        """Read them.

        Args:
            journal: The run's.
            fresh: Makes tokens of traces that are new.
        """
        self._fresh = fresh
        self._known: dict[str, tuple[Ids, Ids, Ids]] = {}
        for entry in entries(journal):
            if not isinstance(entry, Reject):
                trace, prompt, response, starts = entry
                if response:
                    self._known[trace.trace_id] = prompt, response, starts

    def __call__(self, trace: Trace) -> TokenizedTrace:
        """Tokens of a trace."""
        if (known := self._known.get(trace.trace_id)) is None:
            return self._fresh(trace)
        prompt, response, starts = map(tuple, known)
        return TokenizedTrace(trace, prompt, response, starts)


@dataclass(slots=True)
class Inputs:
    """What a run works on.

    Attributes:
        cases: The cases, in order.
        rejects: What is not studied, and why.
    """

    cases: Sequence[Case]
    rejects: list[Reject] = field(default_factory=list)


@dataclass(slots=True)
class Preparing:
    """Makes the cases of a run.

    Attributes:
        study: The study.
        ctx: What the study is given.
        journal: Where the cases are written down.
        load: Takes every trace that is studied, for the database.
        measured_by: The names of the model that measures; None where none does.
        others: Filled with the models that made traces and are not that one, one a trace.
    """

    study: Any
    ctx: StudyContext[Any]
    journal: Journal
    load: Callable[[Sequence[LoadedTrace]], None]
    measured_by: Sequence[str] | None = None
    others: list[str] = field(default_factory=list)
    _rejects: list[Reject] = field(default_factory=list)
    _held: list[Case] = field(default_factory=list)
    _spooled: int = 0
    _seen: set[str] = field(default_factory=set)

    def prepare(self, source: Source, *, attempts: int = 1, keep: Keep = "first") -> Flow[Inputs]:
        """Cases of traces; those without a response are answered first.

        Runs of agents are many and large: they are written down as they are read, and read again
        when they are looked at.
        """
        waiting: list[Trace] = []
        lines = self._lines(source.found, waiting)
        if (first := next(lines, None)) is not None:
            self.journal.write_lines(FILE, chain([first], lines))
        if waiting:
            traces, refused = yield from respond(waiting, self.ctx, attempts=attempts, keep=keep)
            self._rejects += refused
            there = [*self.journal.lines(FILE)] if self._spooled else []
            more = (row for t in traces for row in self._rows(source.labelled(t)))
            self.journal.write_lines(FILE, chain(there, more))
        rejected = [{"reject": asdict(r)} for r in self._rejects]
        if rejected:
            self.journal.write_lines(FILE, chain([*self.journal.lines(FILE)], rejected))
        return self._inputs()

    def restore(self) -> Inputs:
        """The cases of a run that was prepared before."""
        for entry in entries(self.journal):
            if isinstance(entry, Reject):
                self._rejects.append(entry)
            else:
                for _ in self._rows(entry[0], complain=False):
                    pass
        return self._inputs()

    def _inputs(self) -> Inputs:
        if self._spooled:
            return Inputs(_Spooled(self, self._spooled + len(self._held)), self._rejects)
        return Inputs(self._held, self._rejects)

    def _lines(
        self, found: Iterable[Trace | Reject], waiting: list[Trace]
    ) -> Iterator[dict[str, Any]]:
        """Lines of what can be prepared at once; the rest is put into `waiting`."""
        for item in found:
            if isinstance(item, Reject):
                self._rejects.append(item)
            elif item.episode is not None:
                yield from self._rows(item)
            else:
                try:
                    waiting.append(self._prompted(item))
                except PlanError as e:
                    self._refuse(item, e)

    def _prompted(self, trace: Trace) -> Trace:
        """A trace that has no response, with its prompt as the study wants it."""
        prompted = getattr(self.study, "prompted", None)
        if trace.answered or prompted is None:
            return trace
        found: Trace = prompted(trace, self.ctx)
        return found

    def _refuse(self, trace: Trace, why: PlanError) -> None:
        self._rejects.append(Reject.of(trace, why))

    def _rows(self, trace: Trace, *, complain: bool = True) -> Iterator[dict[str, Any]]:
        """Lines of the cases of one trace."""
        try:
            cases = list(self.study.cases(trace, self.ctx))
            if trace.trace_id in self._seen:
                raise PlanError("the same turns and model as an earlier record")
        except PlanError as e:
            if complain:
                self._refuse(trace, e)
            return
        except _ABOUT_ONE as e:  # whatever is odd about one trace, the others are not
            if complain:
                self._rejects.append(refused(e, trace.source, trace.line, place=trace.name))
            return
        self._seen.add(trace.trace_id)
        off = None if self.measured_by is None else off_policy(trace.model, self.measured_by)
        if off:
            self.others.append(str(trace.model))
        for case in cases:
            self.load([loaded(case, off)])
            if trace.episode is None:
                self._held.append(case)
            else:
                self._spooled += 1
            t = case.tokens
            yield {
                "trace": t.trace.to_json(),
                "prompt_ids": list(t.prompt_ids),
                "response_ids": list(t.response_ids),
                "starts": list(t.starts),
            }

    def again(self) -> Iterator[Case]:
        """All cases, made anew from the journal one at a time."""
        for entry in entries(self.journal):
            if not isinstance(entry, Reject):
                yield from self.study.cases(entry[0], self.ctx)


class _Spooled(Sequence[Case]):
    """Cases that are read from the journal whenever they are looked at."""

    def __init__(self, of: Preparing, size: int) -> None:
        self._of, self._size = of, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Case]:
        return self._of.again()

    @overload
    def __getitem__(self, index: int) -> Case: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Case]: ...
    def __getitem__(self, index: int | slice) -> Case | Sequence[Case]:
        if isinstance(index, slice):
            return list(self)[index]
        for i, case in enumerate(self):
            if i == index % self._size:
                return case
        raise IndexError(index)


def loaded(case: Case, off_policy: bool | None = None) -> LoadedTrace:
    """A case as rows of `traces`, `turns` and `units`."""
    return LoadedTrace(case.tokens, case.units, case.segmenter, case.categories, off_policy)


def refuse_empty(inputs: Inputs, source: str) -> None:
    """Refuse to go on without anything to study.

    Raises:
        ImportFormatError: Nothing can be studied; the sentence has the first reason.
    """
    if inputs.cases:
        return
    first = f"; the first: {inputs.rejects[0]}" if inputs.rejects else ""
    raise ImportFormatError(
        f"{source}: nothing can be studied ({len(inputs.rejects)} rejected){first}"
    )
