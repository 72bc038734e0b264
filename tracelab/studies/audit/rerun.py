"""Re-executes recorded runs: the model writes, the environment answers.

Whatever an environment does is one observation, the answer to a `Call` of kind `rerun`, so an audit
that is driven again needs no environment for what was answered before. `Reruns` makes the calls;
their `payload` is an `Execution`, and calling that gives the flow which carries them out:

    call = reruns.rerun(run, start, ordinal)      # a study asks for it
    observation = yield from call.payload()       # whoever answers drives this flow

That flow asks for the model's turns (`Item`s) and for steps of the environment (`Call`s of kind
`act`, whose payload is a function without arguments that keeps what it finds for itself: run it, in
any thread, and answer `Observation.of(key, 0, None)`). An environment that fails is an answer too
(`Rerun.error`); where an engine fails, the re-execution is an error observation.

What is drawn depends on nothing but the launch: the samples of a re-execution have keys of their
own (`Item.intervention`), and its ordinal is their replicate, so that launches from one place make
one request of several replicates.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import zip_longest
from typing import Any

from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.flow import Ask, Execution, Flow
from tracelab.core.hashing import content_hash
from tracelab.core.item import TRUNCATED, Call, Item, Observation
from tracelab.core.seam import (
    Environment,
    EnvironmentFailure,
    MakeEnvironment,
    Message,
    RecordedRun,
    State,
)
from tracelab.core.study import StudyContext
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.recorded import digest
from tracelab.studies.chat import Chat

STAGE = "re-executions"
_RUNS_KEPT = 64
_MOST_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Rerun:
    """One re-execution.

    Attributes:
        start: The action before which it began, 0..N-1.
        left: The first action that it, or the reply to which, was another one; N if there is none.
        reward: What it scored; None when it failed or was censored.
        censored: It called something that a replay has no answer to.
        forced: It began with a given action instead of one of the model's; a sample of no V.
        action: What it wrote at `left` (or was given).
        actions: All that it wrote, or was given, from `start` on.
        tokens: Prompt and generated tokens it took.
        generated: Those of them that were generated.
        error: Why it failed, if it did.
    """

    start: int
    left: int
    reward: float | None
    censored: bool = False
    forced: bool = False
    action: str = ""
    actions: tuple[str, ...] = ()
    tokens: int = 0
    error: str | None = None
    generated: int = 0

    @property
    def truncated(self) -> bool:
        """Whether the limit of tokens cut a turn."""
        return (self.error or "").startswith(TRUNCATED)

    @classmethod
    def of(cls, launch: Launch, o: Observation) -> Rerun:
        """Read the answer; one that no engine gave is a failure."""
        if o.error is not None:
            size = len(launch.run.actions)
            forced = launch.forced is not None
            return cls(launch.start, size, None, forced=forced, error=o.error)
        return cls(**{**o.value, "actions": tuple(o.value["actions"])})


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded actions executed again, once.

    Attributes:
        same_score: Whether the score was the recorded one.
        differs: The first action whose reply was another one; None if there is none.
        ended: Why it was over, as the environment says.
        error: Why it could not be done; empty if it could.
        recorded: What the record has where it differs: the reply, or the score.
        came: What came instead of that.
        score: What it scored; None where the environment cannot tell.
    """

    same_score: bool = False
    differs: int | None = None
    ended: str = ""
    error: str = ""
    recorded: str = ""
    came: str = ""
    score: float | None = None

    @classmethod
    def of(cls, o: Observation) -> Replay:
        """Read the answer."""
        return cls(error=o.error) if o.error is not None else cls(**o.value)


@dataclass(frozen=True, slots=True)
class Launch:
    """A re-execution to make: from before an action, perhaps with a given action first.

    Attributes:
        run: The recorded run.
        start: The action before which it begins.
        ordinal: Its number among those of the run and start (and text).
        forced: The action to begin with.
    """

    run: RecordedRun
    start: int
    ordinal: int
    forced: str | None = None

    @property
    def seed(self) -> str:
        """What seeds its environment, with the run's seed."""
        return content_hash([self.run.name, self.start, self.ordinal, self.forced], size=12)


@dataclass(frozen=True, slots=True)
class _Known:
    """A run, its digest, and the tokens that each action's model reads and writes [N]."""

    run: RecordedRun
    digest: str
    read: list[int]
    wrote: list[int]


class Reruns:
    """Asks for what environments do, and does it."""

    def __init__(
        self, ctx: StudyContext[AuditOptions], chat: Chat, name: str, make: MakeEnvironment
    ) -> None:
        """Prepare; no environment is made before one is needed.

        Args:
            ctx: The study's; its options say how long a re-execution may be.
            chat: The model's template.
            name: The environment, as in `audit.environment`.
            make: Makes environments of that name.
        """
        self.chat, self._ctx, self._name, self._make = chat, ctx, name, make
        self._safe = False
        self._known: dict[int, _Known] = {}

    def rerun(self, launch: Launch) -> Call:
        """Ask for a re-execution; `Rerun.of` reads the answer."""
        c, run, start = self._ctx, launch.run, launch.start
        known = self._about(run)
        content = {
            "what": "rerun", "run": run.name, "digest": known.digest, "start": start,
            "ordinal": launch.ordinal, "forced": launch.forced, "environment": self._name,
            "seed": c.seed, "sampling": c.sampling.key(), "model": c.model.key(),
            "max_turns": c.options.max_turns,
        }  # fmt: skip
        first = start + (launch.forced is not None)
        read, wrote = known.read[first:], known.wrote[first:]
        marked = f"rerun:{content_hash([known.digest, start, launch.forced], size=8)}"
        return _call(content, lambda key: Execution(
            partial(self._rerun, key, launch, marked),
            len(read), sum(read), sum(wrote), self._least(wrote), self._least(read), longest(read),
        ))  # fmt: skip

    def replay(self, run: RecordedRun, ordinal: int) -> Call:
        """Ask for the recorded actions to be executed again; `Replay.of` reads the answer."""
        content = {
            "what": "control", "run": run.name, "digest": self._about(run).digest,
            "ordinal": ordinal, "environment": self._name, "seed": self._ctx.seed,
        }  # fmt: skip
        return _call(content, lambda key: Execution(
            partial(self._once, key, partial(self._replayed, run, ordinal)),
            assumed=asdict(Replay(same_score=True, ended=run.ended)),
        ))  # fmt: skip

    def correction(self, run: RecordedRun, action: int) -> Call:
        """Ask what the environment would do instead of an action: a list of texts."""
        content = {
            "what": "correction", "run": run.name, "digest": self._about(run).digest,
            "action": action, "environment": self._name,
        }  # fmt: skip
        return _call(content, lambda key: Execution(
            partial(self._once, key, partial(self._corrected, run, action)), assumed=[]
        ))  # fmt: skip

    def _least(self, tokens: Sequence[int]) -> int:
        """What of some turns' tokens is surely used: half of them, as re-executions go."""
        # A replay ends with the first turn that is not on record.
        return sum(tokens[:1]) // 2 if self._name == "replay" else sum(tokens) // 2

    def expected(self, launch: Launch) -> int:
        """Tokens that a re-execution writes if it goes as the record did."""
        first = launch.start + (launch.forced is not None)
        return sum(self._about(launch.run).wrote[first:])

    def _about(self, run: RecordedRun) -> _Known:
        """What is known of a run; of the last few it is kept."""
        known = self._known.get(id(run))
        if known is None or known.run is not run:
            while len(self._known) >= _RUNS_KEPT:
                del self._known[next(iter(self._known))]
            each = list(zip(run.before, run.actions, strict=True))
            known = self._known[id(run)] = _Known(
                run,
                digest(run),
                [len(self.chat.prompt(b, run.offered_at(t))) for t, (b, _) in enumerate(each)],
                [len(self.chat.written(b, a)) for b, a in each],
            )
        return known

    # -- what answers -----------------------------------------------------------------------

    def _checked(self) -> None:
        """Refuse an environment with side effects that nobody has acknowledged.

        Raises:
            ConfigError: It has them, or does not say whether it has.
        """
        if not self._safe:
            with closing(self._make()) as environment:
                require_safe(environment, self._ctx.options.side_effects, self._name)
            self._safe = True

    def _once(self, key: str, do: Callable[[], Any]) -> Flow[Observation]:
        """Something that takes one step, and no model."""
        self._checked()
        found: list[Any] = []
        failed = yield from _act("controls", key, 0, lambda: found.append(do()))
        if failed is not None:
            return _error(key, failed)
        return Observation.of(key, 0, found[0])

    def _replayed(self, run: RecordedRun, ordinal: int) -> dict[str, Any]:
        env = self._make()
        try:
            seed_environment(env, self._ctx.seed, f"control:{run.name}:{ordinal}")
            state = env.restore(run, 0)
            first, recorded, came = None, "", ""
            for t, action in enumerate(run.actions):
                if state.done:
                    if first is None:
                        first, recorded = t, f"step {run.steps[t]} followed"
                        came = f"it was over before ({state.ended or 'done'})"
                    break
                state = env.step(action)
                if first is None and not follows(state, run, t):
                    first = t
                    recorded, came = parted(run.state_after(t), state.messages)
            score = env.score()
        except EnvironmentFailure as e:
            return asdict(Replay(error=str(e) or "the environment failed"))
        finally:
            env.close()
        graded = score
        if score is None and first is None:
            score = run.score  # a replay that cannot grade has nothing that contradicts it
        same = score is not None and math.isclose(score, run.score, abs_tol=1e-9)
        if not same and first is None:
            recorded, came = f"score {run.score:g}", f"score {score:g}"
        return asdict(Replay(same, first, state.ended, "", recorded, came, graded))

    def _corrected(self, run: RecordedRun, action: int) -> list[str]:
        env = self._make()
        try:
            give = getattr(env, "correction", None)
            return [] if give is None else [str(x) for x in give(run, action)]
        except Exception:  # the user's code; a correction is an extra
            return []
        finally:
            env.close()

    def _rerun(self, key: str, launch: Launch, marked: str) -> Flow[Observation]:
        self._checked()
        c, live = self._ctx, _Live(launch, self._make, self._ctx.options.max_turns, self._ctx.seed)
        stood: Counter[tuple[int, ...]] = Counter()
        try:
            live.error = (yield from _act(STAGE, key, 0, live.begin)) or live.error
            while not live.over:
                try:
                    self.chat.refuse_new_left_out(live.state.messages, live.tools)
                    prompt = self.chat.prompt(live.state.messages, live.tools)
                except PlanError as e:
                    live.error = str(e)
                    break
                # Where it stands before the same tokens again, it must draw another sample.
                again = f":{stood[prompt]}" if stood[prompt] else ""
                stood[prompt] += 1
                item = Item(
                    c.model, prompt, c.sampling, seed=c.seed, first_replicate=launch.ordinal,
                    intervention=marked + again,
                )  # fmt: skip
                heard: list[Observation] = []
                yield Ask(STAGE, [item], heard.extend)
                o = heard[0]
                if o.error is not None and not o.error.startswith("overlong"):
                    return _error(key, o.error)  # another engine may answer
                if o.error is not None:
                    live.error = o.error
                    break
                turn = len(live.actions) + 1
                failed = yield from _act(STAGE, key, turn, partial(live.take, o))
                live.error = failed or live.error
            return Observation.of(key, 0, asdict(live.finished()))
        finally:
            live.close()


@dataclass(slots=True)
class _Live:
    """A re-execution under way. `begin` and `take` may be called in another thread."""

    launch: Launch
    make: MakeEnvironment
    max_turns: int
    seed: int
    env: Environment | None = None
    state: State = State(())
    left: int | None = None
    action: str = ""
    actions: list[str] = field(default_factory=list)
    tokens: int = 0
    generated: int = 0
    reward: float | None = None
    error: str | None = None

    @property
    def over(self) -> bool:
        return self.error is not None or self.state.done or len(self.actions) >= self.max_turns

    @property
    def tools(self) -> Sequence[Message]:
        at, own = self.launch.start + len(self.actions), self.state.tools
        return self.launch.run.offered_at(at) if own is None else own

    def begin(self) -> None:
        """Stand where the run stood, and take the action that is given."""
        launch = self.launch
        try:
            self.env = self.make()
            seed_environment(self.env, self.seed, launch.seed)
            self.state = self.env.restore(launch.run, launch.start)
            if launch.forced is not None:
                self.left, self.action = launch.start, launch.forced
                self.actions.append(launch.forced)
                self.state = self.env.step(launch.forced)
            self._score()
        except EnvironmentFailure as e:
            self.error = str(e) or "the environment failed"

    def take(self, o: Observation) -> None:
        """Take what the model wrote."""
        assert self.env is not None
        run, t = self.launch.run, self.launch.start + len(self.actions)
        read, wrote = o.took
        self.tokens += read + wrote
        self.generated += wrote
        self.actions.append(o.text)
        same = t < len(run.actions) and o.text == run.actions[t]
        if o.finish_reason == "length" and not same:
            # Half a turn is none that an environment could answer; a recorded one has its reply.
            self.error = f"{TRUNCATED}: the limit of tokens cut the model's turn"
            if self.left is None:
                self.left, self.action = t, o.text
            return
        follow = False
        try:
            self.state = self.env.step(o.text)
            follow = same and follows(self.state, run, t)
            self._score()
        except EnvironmentFailure as e:
            self.error = str(e) or "the environment failed"
        if self.left is None and not follow:
            self.left, self.action = t, o.text

    def _score(self) -> None:
        if self.over and self.state.ended != "censored":
            assert self.env is not None
            self.reward = self.env.score()

    def finished(self) -> Rerun:
        size = len(self.launch.run.actions)
        censored = self.state.ended == "censored"
        return Rerun(
            start=self.launch.start,
            left=size if self.left is None else min(self.left, size),
            reward=self.reward if self.error is None and not censored else None,
            censored=censored,
            forced=self.launch.forced is not None,
            action=self.action,
            actions=tuple(self.actions),
            tokens=self.tokens,
            error=self.error,
            generated=self.generated,
        )

    def close(self) -> None:
        if self.env is not None:
            self.env.close()


def _call(content: dict[str, Any], execution: Callable[[str], Execution]) -> Call:
    """A call whose payload knows its key."""
    call = Call("rerun", content)
    return Call("rerun", content, payload=execution(call.key))


def longest(read: Sequence[int]) -> int:
    """Tokens that a re-execution reads which takes half as many turns more as the record did.

    Single ones take longer; many together do not.

    Args:
        read: Tokens of the recorded inputs; those of later ones go on growing as these did.
    """
    if not read:
        return 0
    more, last = -(-len(read) // 2), read[-1]
    growth = max(0, last - read[0]) / max(len(read) - 1, 1)
    return sum(read) + more * last + int(growth * more * (more + 1) / 2)


def _act(stage: str, key: str, turn: int, do: Callable[[], None]) -> Flow[str | None]:
    """Let the environment take a step; why it could not be taken, or None."""
    heard: list[Observation] = []
    yield Ask(stage, [Call("act", {"rerun": key, "turn": turn}, payload=do)], heard.extend)
    return heard[0].error


def _error(key: str, why: str) -> Observation:
    return Observation(key, 0, finish_reason="error", error=why)


def require_safe(environment: Environment, acknowledged: bool, name: str) -> None:
    """Refuse an environment with side effects that nobody has acknowledged.

    Raises:
        ConfigError: It has side effects, or does not say whether it has.
    """
    declared = getattr(environment, "side_effects", None)
    if declared is False or acknowledged:
        return
    what = "has side effects" if declared else "does not say `side_effects = False`"
    raise ConfigError(
        f"environment {name!r} {what}, and an audit executes its steps many times; set "
        "audit.side_effects = true (--side-effects) if that is acceptable"
    )


def follows(state: State, run: RecordedRun, t: int) -> bool:
    """Whether the replies after action t are the recorded ones.

    After the last action a log may end earlier than the environment: what came then decided
    nothing more.
    """
    recorded = run.state_after(t)
    if t == len(run.actions) - 1:
        return same_messages(state.messages[: len(recorded)], recorded)
    return same_messages(state.messages, recorded)


def same_messages(a: Sequence[Message], b: Sequence[Message]) -> bool:
    """Whether the replies of two chats are the same: all but what models wrote."""
    mine, theirs = (
        [(m["role"], m.get("content")) for m in chat if m["role"] != "assistant"] for chat in (a, b)
    )
    return mine == theirs


def parted(recorded: Sequence[Message], came: Sequence[Message]) -> tuple[str, str]:
    """The first replies in which two chats differ, each as `role: text`; at most 2,000 characters.

    Of chats in which all replies are the same, the lengths are what differs.
    """
    mine, theirs = ([_reply(m) for m in x if m["role"] != "assistant"] for x in (recorded, came))
    for a, b in zip_longest(mine, theirs, fillvalue="no reply"):
        if a != b:
            return a[:_MOST_SHOWN], b[:_MOST_SHOWN]
    return f"{len(mine)} replies", f"{len(theirs)} replies"


def _reply(message: Message) -> str:
    return f"{message['role']}: {message.get('content') or ''}"


def seed_environment(environment: Environment, seed: int, key: str) -> None:
    """Seed an environment that draws random numbers."""
    if (give := getattr(environment, "seed", None)) is not None:
        give(int(content_hash([seed, key], size=6), 16))
