"""Opinions of an audit: floors and judges, which guess without executing anything.

Evidence is `judged`, whatever they claim, and none of them localizes. What a judge said is kept
under a hash of everything that was asked, so a command that is issued again pays only for what is
missing; an answer that could not be had (a failed call, a spent budget) is asked for again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from tracelab import aio
from tracelab.config import RunConfig
from tracelab.engines.base import Counters, Tokenizer
from tracelab.engines.chat import Budget, ChatClient
from tracelab.engines.chat_local import EngineChat
from tracelab.episode import Episode
from tracelab.errors import ConfigError
from tracelab.judging import JudgeSetup, judge_all, open_client
from tracelab.methods.floors import FLOORS
from tracelab.methods.judge import PROTOCOLS, Opinion
from tracelab.methods.verdict import Verdict
from tracelab.runtime.run import Run
from tracelab.trace import content_hash
from tracelab.work import Observation, Score, WorkItem

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


def opinions(run: Run, tokenizer: Tokenizer, episodes: Sequence[Episode]) -> Opinions:
    """What floors and judges think of the runs that are not known to have succeeded.

    Raises:
        ConfigError: An opinion is unknown, or the judge's endpoint lacks a model or key.
    """
    config, out = run.config, Opinions()
    known_opinions(config.audit.opinions)
    failed = {e.to_trace().trace_id: e for e in episodes if e.success is not True}
    judges = []
    for name in dict.fromkeys(config.audit.opinions):
        if name in PROTOCOLS:
            judges.append(name)
            continue
        for (trace, e), guess in zip(failed.items(), FLOORS[name](list(failed.values())),
                                     strict=True):  # fmt: skip
            step = None if guess is None else guess.step
            out.add(trace, e, f"floor:{name}", Opinion(step, reason="a rule that asks no model"))
    if judges:
        _judge(run, tokenizer, judges, failed, out)
    return out


def _judge(
    run: Run, tokenizer: Tokenizer, judges: Sequence[str], failed: Mapping[str, Episode],
    out: Opinions,
) -> None:  # fmt: skip
    config = run.config
    kept = {row["key"]: row["opinion"] for row in run.journal.read_lines(OPINIONS)}
    keys = {(t, name): _key(config, t, name) for t in failed for name in judges}
    owed = {n: [t for t in failed if keys[t, n] not in kept] for n in judges}
    if any(owed.values()):
        with _client(run, tokenizer) as client:
            try:
                for name in judges:
                    found: dict[str, dict[str, Any]] = {}
                    try:
                        aio.run(_ask(config, client, name, {t: failed[t] for t in owed[name]},
                                     found))  # fmt: skip
                    finally:
                        kept |= {keys[t, name]: said for t, said in found.items()}
                    run.check_stop()
            finally:  # what was answered, and perhaps paid for, is kept
                rows = ({"key": k, "opinion": o} for k, o in kept.items() if _final(o))
                run.journal.write_lines(OPINIONS, rows)
    for name in judges:
        for trace, episode in failed.items():
            said = dict(kept[keys[trace, name]])
            said["parse_failures"] = Counter(said["parse_failures"])
            said["notes"] = tuple(said["notes"])
            out.add(trace, episode, f"judge:{name}", Opinion(**said))


def _final(opinion: Mapping[str, Any]) -> bool:
    return str(opinion["status"]) != "failed"


async def _ask(
    config: RunConfig, client: ChatClient, name: str, owed: Mapping[str, Episode],
    found: dict[str, dict[str, Any]],
) -> None:  # fmt: skip
    """Ask about runs; fills `found` as opinions come."""
    judge, traces = config.audit.judge, iter(owed)
    try:
        async for _, said in judge_all(
            owed.values(), name, client, show_reference=judge.show_reference,
            reply_tokens=judge.reply_tokens, seed=config.seed,
        ):  # fmt: skip
            # `asdict` makes a Counter anew, of pairs.
            found[next(traces)] = asdict(said) | {"parse_failures": dict(said.parse_failures)}
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

    def run(self, items: Iterable[WorkItem]) -> Iterator[list[Observation]]:
        """See `Pool.run`."""
        found: list[list[Observation]] = []
        self.of.observe("judges", list(items), found.append)
        yield from found

    def counters(self) -> Counters:
        """See `Pool.counters`; the run counts for itself."""
        return Counters()

    def close(self) -> None:
        """See `Pool.close`; the run closes its engines."""
