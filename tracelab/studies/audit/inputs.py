"""What an audit works on: episodes from a source, or played by the testbed's model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tracelab.core.episode import Episode
from tracelab.core.errors import PlanError
from tracelab.core.seam import RecordedRun, Reject
from tracelab.core.trace import Trace
from tracelab.environments.recorded import recorded_run
from tracelab.environments.testbed import as_episode
from tracelab.grading.grader import Grader
from tracelab.run.config import RunConfig
from tracelab.sources import read
from tracelab.studies.audit.play import play, testbed_tasks
from tracelab.studies.audit.rerun import Rerunner
from tracelab.studies.audit.subject import Subject


@dataclass(slots=True)
class Source:
    """Where runs come from, and what could not be used.

    Attributes:
        episodes: Trace ids and runs; gone through more than once.
        rejects: What could not be used.
        runs: Runs of the testbed, by trace: they need no reconstruction.
    """

    episodes: Iterable[tuple[str, Episode]]
    rejects: list[Reject] = field(default_factory=list)
    runs: dict[str, RecordedRun] = field(default_factory=dict)


def read_runs(config: RunConfig, rejects: list[Reject]) -> Iterator[Episode]:
    """Read the source, one run at a time; what is none is added to `rejects`.

    Several paths are separated by line breaks.

    Raises:
        ImportFormatError: It cannot be read.
    """
    limit, count = config.source_options.limit, 0
    for found in read(config.source.splitlines(), config.source_options.format):
        if isinstance(found, Reject):
            rejects.append(found)
            continue
        if limit is not None and count >= limit:
            break
        episode = found.episode
        if episode is not None and episode.steps:
            count += 1
            yield episode
            continue
        why = "has no steps" if episode is not None else "is no run of an agent: it has no steps"
        rejects.append(Reject(found.source, found.line, f"{found.name}: {why}", ""))


def subjects_of(config: RunConfig, source: Source, rerunner: Rerunner) -> list[Subject]:
    """Failed runs as subjects of an audit; others become rejects, or are left alone.

    A run that succeeded is no failure and no reject: there is nothing to explain.
    """
    subjects = []
    alone = Counter((e.source, e.line) for _, e in source.episodes)
    for trace, episode in source.episodes:
        try:
            if (episode.reward if episode.reward is not None else episode.success or 0.0) >= 1.0:
                continue
            written = sum(s.kind == "llm" for s in episode.steps)
            if written > config.audit.max_steps:  # before the work that grows with its square
                raise PlanError(
                    f"has {written} model steps, more than audit.max_steps = "
                    f"{config.audit.max_steps}"
                )
            run = source.runs.get(trace) or recorded_run(episode, rerunner.chat.spell)
            _fits(run, rerunner)
        except PlanError as e:
            place = episode.source, episode.line
            # A file's name and line say which run it is, unless several stand there.
            reason = str(e) if alone[place] == 1 else f"{episode.name}: {e}"
            source.rejects.append(Reject(*place, reason, episode.name))
            continue
        subjects.append(Subject(trace, run))
    return subjects


def _fits(run: RecordedRun, rerunner: Rerunner) -> None:
    """Refuse a run with an input that the model's context cannot hold.

    Raises:
        PlanError: It is too long, or the chat template refuses it.
    """
    room = rerunner.context_length
    for t, before in enumerate(run.before):
        size = len(rerunner.chat.prompt(before, run.offered_at(t)))
        if room is not None and size >= room:
            raise PlanError(
                f"the input of step {run.steps[t]} has {size} tokens, but the model's context "
                f"holds {room}"
            )


def play_runs(config: RunConfig, rerunner: Rerunner, runs: dict[str, RecordedRun]) -> list[Episode]:
    """Let the testbed's model play; returns the failures, and fills `runs` by trace."""
    tasks = testbed_tasks(config.source_options.problems, seed=config.seed, split="evaluation")
    played = play(
        tasks, rerunner.chat, rerunner.model, rerunner.sampling, config.seed, rerunner.observe
    )
    failed = [as_episode(p.run) for p in played if p.run.score < 1.0]
    named = {p.run.name: p.run for p in played}
    runs |= {Trace.of_episode(e).trace_id: named[e.name] for e in failed}
    return failed


def grade_with(grader: Grader) -> Callable[[str, str], float | None]:
    """Grades a final text against a reference; None when it cannot be graded."""

    def grade(text: str, reference: str) -> float | None:
        outcome = grader.grade(
            text, reference=reference, own_answer=None, finish_reason="stop", trace=None
        )
        return outcome.reward

    return grade
