"""Opinions of an audit: floors and judges, which guess without executing anything.

Evidence is `judged`, whatever they claim, and none of them localizes. What a judge said is kept
under a hash of everything that was asked, so a command that is issued again pays only for what is
missing; an answer that could not be had (a failed call, a spent budget) is asked for again.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tracelab.core.episode import Arguments, Episode, Step, ToolCall
from tracelab.core.errors import ConfigError
from tracelab.core.finding import Score, Verdict
from tracelab.core.hashing import content_hash
from tracelab.core.item import Item, Observation
from tracelab.engines import aio
from tracelab.engines.base import Counters, Tokenizer
from tracelab.engines.chat import Budget, ChatClient
from tracelab.engines.chat_local import EngineChat
from tracelab.run.config import RunConfig
from tracelab.run.session import Run
from tracelab.studies.audit.floors import FLOORS, LEARNT, Guess
from tracelab.studies.audit.judge import PROTOCOLS, Opinion
from tracelab.studies.audit.judging import JudgeSetup, judge_all, open_client

OPINIONS = "opinions.jsonl"
P_DECISIVE = "p_decisive"


@dataclass(slots=True)
class Opinions:
    """What was said.

    Attributes:
        verdicts: One for each run and judge, without a step where none was named.
        scores: All belief on the named step.
        failed: Calls that brought no answer.
        unusable: Answers that name no step, by kind.
    """

    verdicts: list[Verdict] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)
    failed: int = 0
    unusable: Counter[str] = field(default_factory=Counter)

    def add(self, trace: str, episode: Episode, method: str, said: Opinion) -> None:
        """Take one opinion."""
        step = said.step
        named = step is not None and 0 <= step < len(episode.steps)
        at = episode.steps[step] if named and step is not None else None
        reason = said.reason or said.error or ""
        if not named and not reason and said.parse_failures:
            reason = "the answer cannot be used: " + ", ".join(sorted(said.parse_failures))
        extra: dict[str, Any] = {"opinion": said.status}
        if said.parse_failures:
            extra["unusable"] = dict(said.parse_failures)
        if method.startswith("judge:"):
            extra |= {"reference_shown": said.reference_shown, "calls": said.calls}
        self.failed += said.status == "failed"
        if said.status != "failed" and not named:
            kinds = said.parse_failures or Counter([said.status])
            self.unusable[next(iter(sorted(kinds)))] += 1
        self.verdicts.append(
            Verdict(
                trace, method, "judged", "ambiguous" if named else "unidentifiable",
                decisive_step=step if named else None,
                agent=said.agent or (at.agent if at is not None else None),
                tool=at.calls[0].name if at is not None and at.calls else None,
                who="agent" if named else "unknown", reason=reason[:500], extra=extra,
            )
        )  # fmt: skip
        if named and step is not None:
            score = Score(trace, "step", step, method, P_DECISIVE, 1.0, None, None, 0.9, 1, "ok",
                          "judged")  # fmt: skip
            self.scores.append(score)


def known_opinions(names: Iterable[str]) -> None:
    """Refuse names that are no judge and no rule.

    Raises:
        ConfigError: One is unknown.
    """
    for name in names:
        if name not in FLOORS and name not in PROTOCOLS:
            raise ConfigError(
                f"audit.opinions: there is no {name!r}; known are "
                f"{', '.join([*FLOORS, *PROTOCOLS])}"
            )


def opinions(run: Run, tokenizer: Tokenizer, episodes: Iterable[tuple[str, Episode]]) -> Opinions:
    """What floors and judges think of the runs that are not known to have succeeded.

    Runs are gone through one at a time, as often as needed; of all of them together only what
    rules that learn from others need is held.

    Raises:
        ConfigError: An opinion is unknown, or the judge's endpoint lacks a model or key.
    """
    names, out = list(dict.fromkeys(run.config.audit.opinions)), Opinions()
    known_opinions(names)
    judges = [n for n in names if n in PROTOCOLS]
    together = [n for n in names if n in LEARNT]
    kept = _judged(run, tokenizer, judges, episodes) if judges else {}
    slim: dict[str, Episode] = {}
    for trace, e in _failed(episodes):
        for name in names:
            if name in judges:
                said = kept[_key(run.config, trace, name)]
                failures = Counter(said["parse_failures"])
                said = said | {"parse_failures": failures, "notes": tuple(said["notes"])}
                out.add(trace, e, f"judge:{name}", Opinion(**said))
            elif name not in LEARNT:
                out.add(trace, e, f"floor:{name}", _rule(FLOORS[name]([e])[0]))
        if together:
            slim[trace] = _slim(e)
    for name in together:
        guesses = FLOORS[name](list(slim.values()))
        for (trace, e), guess in zip(slim.items(), guesses, strict=True):
            out.add(trace, e, f"floor:{name}", _rule(guess))
    return out


def _failed(episodes: Iterable[tuple[str, Episode]]) -> Iterator[tuple[str, Episode]]:
    return ((trace, e) for trace, e in episodes if e.success is not True)


def _rule(guess: Guess | None) -> Opinion:
    return Opinion(None if guess is None else guess.step, reason="a rule that asks no model")


def _slim(e: Episode) -> Episode:
    """What rules that learn from other runs look at: labels, kinds, agents and tools."""
    steps = tuple(
        Step(s.index, s.kind, s.agent, tool=s.tool,
             calls=tuple(ToolCall(c.name, Arguments("")) for c in s.calls[:1]), flags=s.flags)
        for s in e.steps
    )  # fmt: skip
    return Episode(e.name, steps, e.format, label=e.label)


def _judged(
    run: Run, tokenizer: Tokenizer, judges: Sequence[str],
    episodes: Iterable[tuple[str, Episode]],
) -> dict[str, dict[str, Any]]:  # fmt: skip
    """Everything judges said, by key; asks for what is not known yet."""
    config = run.config
    kept = {row["key"]: row["opinion"] for row in run.journal.lines(OPINIONS)}
    traces = [trace for trace, _ in _failed(episodes)]
    owed = {n: {t for t in traces if _key(config, t, n) not in kept} for n in judges}
    if not any(owed.values()):
        return kept
    with _client(run, tokenizer) as client:
        try:
            for name in judges:
                asked = ((t, e) for t, e in _failed(episodes) if t in owed[name])
                aio.run(_ask(config, client, name, asked, kept))
                run.check_stop()
        finally:  # what was answered, and perhaps paid for, is kept
            rows = ({"key": k, "opinion": o} for k, o in kept.items() if _final(o))
            run.journal.write_lines(OPINIONS, rows)
    return kept


def _final(opinion: Mapping[str, Any]) -> bool:
    return str(opinion["status"]) != "failed"


async def _ask(
    config: RunConfig, client: ChatClient, name: str, owed: Iterable[tuple[str, Episode]],
    kept: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    """Ask about runs; fills `kept` as opinions come."""
    judge, waiting = config.audit.judge, deque[str]()

    def runs() -> Iterator[Episode]:
        for trace, e in owed:
            waiting.append(trace)
            yield e

    try:
        async for _, said in judge_all(
            runs(), name, client, show_reference=judge.show_reference,
            reply_tokens=judge.reply_tokens, seed=config.seed,
        ):  # fmt: skip
            # `asdict` makes a Counter anew, of pairs.
            row = asdict(said) | {"parse_failures": dict(said.parse_failures)}
            kept[_key(config, waiting.popleft(), name)] = row
    finally:
        await client.close()


def _key(config: RunConfig, trace: str, name: str) -> str:
    judge = config.audit.judge
    who = [judge.endpoint, judge.model] if judge.endpoint else [config.model, config.engine.kind]
    asked = [judge.context, judge.reply_tokens, judge.show_reference, config.seed]
    return content_hash(["opinion-1", trace, name, who, asked], size=12)


@contextmanager
def _client(run: Run, tokenizer: Tokenizer) -> Iterator[ChatClient]:
    """The endpoint, or the run's own engines, whose answers the journal keeps."""
    judge = run.config.audit.judge
    if judge.endpoint is not None:
        same = ("endpoint", "model", "api_key_env", "context", "concurrency", "max_requests",
                "max_tokens", "max_cost", "timeout_s", "attempts")  # fmt: skip
        setup = JudgeSetup(
            prices=(judge.input_price, judge.output_price), seed=run.config.seed,
            **{name: getattr(judge, name) for name in same},
        )  # fmt: skip
        with open_client(setup) as client:
            yield client
        return
    spec = run.spec
    budget = Budget(judge.max_requests, judge.max_tokens, judge.max_cost, judge.input_price,
                    judge.output_price)  # fmt: skip
    yield EngineChat(_Observed(run), tokenizer, spec.model, spec.context_length, budget)


@dataclass(slots=True)
class _Observed:
    """The run's engines as a pool: answers come from the journal where it has them."""

    of: Run

    def run(self, items: Iterable[Item]) -> Iterator[list[Observation]]:
        """See `Pool.run`."""
        found: list[list[Observation]] = []
        self.of.observe("judges", list(items), found.append)
        yield from found

    def counters(self) -> Counters:
        """See `Pool.counters`; the run counts for itself."""
        return Counters()

    def close(self) -> None:
        """See `Pool.close`; the run closes its engines."""
