"""`tracelab ingest --explain`: how one trace is read, step by step, with where each comes from.

Nothing is stored. Text of a trace is `clean`ed: it cannot move the cursor or forge a line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from tracelab.core.episode import Episode, Step
from tracelab.core.errors import ImportFormatError
from tracelab.core.seam import Reject
from tracelab.core.trace import Trace
from tracelab.sources import read
from tracelab.sources.account import Account
from tracelab.text.clean import clean

_PROSE = 100
_YES = {True: "yes", False: "no", None: "unknown"}


def explained(
    paths: Sequence[str], form: str, number: int = 1, columns: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Lines on one trace of some files.

    Args:
        paths: Files and folders.
        form: Their format, or `auto`.
        number: Which trace, from 1, in the order they are read.
        columns: What a data set calls its columns.

    Raises:
        ImportFormatError: A path cannot be read at all, or holds fewer traces.
    """
    rejects = 0
    traces = 0
    for item in read(list(paths), form, columns):
        if isinstance(item, Reject):
            rejects += 1
            if rejects <= 3 and traces < number:
                yield clean(f"rejected: {item}")
            continue
        traces += 1
        if traces == number:
            yield from _explained(item)
            return
    raise ImportFormatError(
        f"{', '.join(paths)}: there are {traces} traces ({rejects} records rejected), so none has "
        f"the number {number}"
    )


def _explained(trace: Trace) -> Iterator[str]:
    at = f" line {trace.line}" if trace.line else ""
    episode = trace.episode
    what = "prompt and response" if episode is None else f"a run of agents ({episode.format})"
    yield clean(f"{trace.source}{at}: {trace.name!r}, {what}")
    known = {
        "model": trace.model, "success": _YES[trace.success], "answer": trace.answer,
        "reference": trace.reference, "rendering": None if episode else trace.rendering,
    }  # fmt: skip
    if episode is not None:
        known |= {
            "task": episode.task, "reward": None if episode.reward is None else str(episode.reward),
            "version": episode.version,
        }  # fmt: skip
    for name, value in known.items():
        if value:
            yield clean(f"  {name:<10} {_short(value)}")
    if episode is None:
        for i, turn in enumerate(trace.turns):
            last = trace.answered and i == len(trace.turns) - 1
            yield clean(f"  {i:>4}  {turn.role:<10} {'response' if last else 'prompt':<18} "
                        f"{_short(turn.text)}")  # fmt: skip
    else:
        yield from _steps(episode)
    account = Account()
    account.add(trace)
    yield from (f"  {clean(line)}" for line in account.lines())
    kept = trace.extra if episode is None else episode.meta
    if names := [k for k in kept if k != "dropped" and kept[k] not in (None, {}, [])]:
        yield clean(f"  kept beside it: {_short(', '.join(map(str, names)))}")
    if episode is not None:
        yield from (clean(f"  note: {n}") for n in islice(episode.notes, 10))


def _steps(episode: Episode) -> Iterator[str]:
    wide = min(max((len(s.place) for s in episode.steps), default=0), 40)
    for step in episode.steps:
        flags = f"  [{', '.join(step.flags)}]" if step.flags else ""
        who = f"{step.kind} {_name(step)}".strip()
        yield clean(f"  {step.index:>4}  {who:<22} {step.place:<{wide}}  {_said(step)}{flags}")


def _name(step: Step) -> str:
    if step.kind == "tool":
        return step.tool or step.agent or ""
    return "" if step.agent in (None, step.kind) else str(step.agent)


def _said(step: Step) -> str:
    parts = []
    if step.reasoning:
        parts.append(f"(thinks {len(step.reasoning)} characters)")
    if step.kind == "tool" and step.result is None:
        parts.append("(no result)")
    if step.content:
        parts.append(_short(step.content))
    parts += [f"-> {c.name}({_short(c.arguments.raw)})" for c in step.calls]
    return " ".join(parts)


def _short(text: object) -> str:
    said = str(text)
    return said if len(said) <= _PROSE else f"{said[:_PROSE]}… ({len(said)} characters)"
