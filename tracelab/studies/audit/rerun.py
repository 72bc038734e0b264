"""Re-executes recorded runs: the model writes, the environment answers, in rounds of many at once.

All re-executions in hand take one turn together, so that one engine call serves all of them; those
that stand before the same tokens are one request. What is drawn is determined by the order in
which re-executions are asked for, so a run that is resumed repeats itself from the journal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from tracelab.core.errors import PlanError
from tracelab.core.hashing import content_hash
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import (
    Environment,
    EnvironmentFailure,
    MakeEnvironment,
    Message,
    RecordedRun,
    State,
)
from tracelab.core.trace import Rendering
from tracelab.studies.audit.step import Rerun
from tracelab.studies.cite.attribution import Observe

_SENTINEL = "\u2983end"


class ChatTemplate(Protocol):
    """What a tokenizer must do; see `tracelab.engines.tokenizer.HFTokenizer`."""

    def chat_text(
        self,
        messages: Sequence[Mapping[str, Any]],
        rendering: Rendering,
        *,
        ask: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """A chat as text."""
        ...

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """Its tokens."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a text by itself."""
        ...


class Chat:
    """Messages as tokens, and back: what a model is given, and what it writes."""

    def __init__(self, tokenizer: ChatTemplate) -> None:
        self._tok = tokenizer
        self._prompts: dict[str, tuple[int, ...]] = {}

    def text(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> str:
        """A chat that the model is to continue, as text.

        Raises:
            PlanError: The template refuses the messages.
        """
        return self._tok.chat_text(messages, "chat", tools=tools)

    def prompt(self, messages: Sequence[Message], tools: Sequence[Message] = ()) -> tuple[int, ...]:
        """Tokens of a chat that the model is to continue, when it is offered tools.

        Raises:
            PlanError: The template refuses the messages.
        """
        key = content_hash([[dict(m) for m in messages], list(tools)])
        if key not in self._prompts:
            if len(self._prompts) > 50_000:
                self._prompts.clear()
            self._prompts[key] = self._tok.encode_prompt(self.text(messages, tools), "chat")
        return self._prompts[key]

    def spell(
        self, messages: Sequence[Message], message: Message, tools: Sequence[Message] = ()
    ) -> str:
        """What follows the generation prompt when the model writes a message.

        Raises:
            PlanError: The template does not render it as a continuation of the prompt.
        """
        prompt = self.text(messages, tools)
        tail = self._tail(messages)
        thought, spelled = str(message.get("reasoning_content") or "").strip(), list[str]()
        for form in _forms(message):
            whole = self._tok.chat_text([*messages, form], "chat", ask=False, tools=tools)
            if whole.startswith(prompt) and whole.endswith(tail):
                spelled.append(whole[len(prompt) : len(whole) - len(tail)])
        if spelled:
            return next((text for text in spelled if thought in text), spelled[0])
        opened = prompt.rstrip().rpartition("\n")[2]
        raise PlanError(
            "a step is no continuation of its prompt under this model's chat template, which ends "
            f"in {opened[-40:]!r}: the log lacks what the model wrote first, or is of another model"
        )

    def written(self, messages: Sequence[Message], action: str) -> tuple[int, ...]:
        """Tokens of an action, with the mark that ends a turn."""
        return (*self._tok.encode_text(action), *self._tok.encode_text(self._tail(messages))[:1])

    def _tail(self, messages: Sequence[Message]) -> str:
        probe = [*messages[:1], {"role": "assistant", "content": _SENTINEL}]
        return self._tok.chat_text(probe, "chat", ask=False).rpartition(_SENTINEL)[2]


def _forms(message: Message) -> Iterator[Message]:
    """A message as it is, and with its reasoning in front, as models write it.

    Some templates know `reasoning_content`; others take a text that holds it.
    """
    yield message
    if thought := message.get("reasoning_content"):
        content = f"<think>\n{thought}\n</think>\n\n{message['content']}"
        yield {**{k: v for k, v in message.items() if k != "reasoning_content"}, "content": content}


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
    def key(self) -> str:
        """Identifies it within a study."""
        return content_hash([self.run.name, self.start, self.ordinal, self.forced], size=12)


@dataclass(slots=True)
class _Live:
    launch: Launch
    env: Environment
    state: State
    left: int | None = None
    action: str = ""
    actions: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    tokens: int = 0
    error: str | None = None

    @property
    def at(self) -> int:
        return self.launch.start + len(self.actions)

    @property
    def tools(self) -> Sequence[Message]:
        own = self.state.tools
        return self.launch.run.offered_at(self.at) if own is None else own


@dataclass(slots=True)
class Rerunner:
    """Makes re-executions.

    Attributes:
        make: Makes environments.
        chat: The model's template.
        model: The model.
        sampling: How it writes a turn.
        seed: The study's.
        observe: Asks engines.
        max_turns: Turns after which a re-execution is scored as it stands.
        max_live: Environments held at once.
        context_length: Tokens that the model can hold; None is not checked.
        workers: Threads in which environments step; for those that wait.
        done: Finished re-executions by key, with the work items they took; filled on the way.
        tokens: Prompt and generated tokens so far.
        generated: Generated tokens so far.
    """

    make: MakeEnvironment
    chat: Chat
    model: ModelRef
    sampling: Sampling
    seed: int
    observe: Observe
    max_turns: int = 100
    max_live: int = 4096
    context_length: int | None = None
    workers: int = 1
    done: dict[str, tuple[Rerun, tuple[str, ...]]] = field(default_factory=dict)
    tokens: int = 0
    generated: int = 0
    _used: Counter[str] = field(default_factory=Counter)

    def adopt(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take over re-executions that an earlier session finished (`rows`)."""
        for row in rows:
            data = {**row["rerun"], "actions": tuple(row["rerun"]["actions"])}
            self.done[row["key"]] = Rerun(**data), tuple(row["items"])
            self._used.update(row["items"])

    def rows(self) -> list[dict[str, Any]]:
        """All finished re-executions, as JSON."""
        return [
            {"key": key, "rerun": asdict(rerun), "items": list(items)}
            for key, (rerun, items) in self.done.items()
        ]

    def run(self, name: str, launches: Sequence[Launch]) -> list[Rerun]:
        """Make re-executions; what was made before is not made again."""
        owed = list({x.key: x for x in launches if x.key not in self.done}.values())
        with ThreadPoolExecutor(self.workers) as threads:
            each = threads.map if self.workers > 1 else map
            for at in range(0, len(owed), self.max_live):
                self._wave(name, owed[at : at + self.max_live], each)
        return [self.done[x.key][0] for x in launches]

    def _wave(self, name: str, launches: Sequence[Launch], each: Callable[..., Any]) -> None:
        every: list[_Live] = list(each(self._begin, launches))
        try:
            while going := [x for x in every if self._goes_on(x)]:
                texts = self._ask(name, going)
                list(each(self._take, going, texts))
        finally:
            for x in every:
                x.env.close()
        for x in every:
            self.done[x.launch.key] = self._finished(x), tuple(x.keys)

    def _begin(self, launch: Launch) -> _Live:
        env = self.make()
        live = _Live(launch, env, State(()))
        try:
            seed_environment(env, self.seed, launch.key)
            live.state = env.restore(launch.run, launch.start)
            if launch.forced is not None:
                live.left, live.action = launch.start, launch.forced
                live.actions.append(launch.forced)
                live.state = env.step(launch.forced)
        except EnvironmentFailure as e:
            live.error = str(e)
        return live

    def _goes_on(self, x: _Live) -> bool:
        return x.error is None and not x.state.done and len(x.actions) < self.max_turns

    def _ask(self, name: str, going: Sequence[_Live]) -> list[Observation | None]:
        """One turn of the model for each; None where its prompt cannot be made."""
        waiting: dict[str, list[int]] = {}
        items: list[Item] = []
        for i, x in enumerate(going):
            try:
                item = Item(
                    self.model, self.chat.prompt(x.state.messages, x.tools), self.sampling,
                    seed=self.seed,
                )  # fmt: skip
            except PlanError as e:
                x.error = str(e)
                continue
            if item.key not in waiting:
                items.append(item)
            waiting.setdefault(item.key, []).append(i)
        found: list[Observation | None] = [None] * len(going)
        place: dict[tuple[str, int], int] = {}
        asked = []
        for item in items:
            who, first = waiting[item.key], self._used[item.key]
            asked.append(
                Item(
                    self.model, item.prefix_ids, self.sampling, seed=self.seed,
                    first_replicate=first, replicates=len(who),
                )
            )  # fmt: skip
            place |= {(item.key, first + k): i for k, i in enumerate(who)}
            self._used[item.key] += len(who)

        def take(batch: list[Observation]) -> None:
            for o in batch:
                if (i := place.get((o.key, o.replicate))) is not None:
                    found[i] = o

        if asked:
            self.observe(name, asked, take)
        return found

    def _take(self, x: _Live, o: Observation | None) -> None:
        if o is None or o.error is not None:
            x.error = x.error or (o.error if o is not None else "the engine gave no answer")
            return
        x.keys.append(o.key)
        x.tokens += o.prefix_tokens + len(o.token_ids)
        self.tokens += o.prefix_tokens + len(o.token_ids)
        self.generated += len(o.token_ids)
        run, t = x.launch.run, x.at
        x.actions.append(o.text)
        try:
            x.state = x.env.step(o.text)
        except EnvironmentFailure as e:
            x.error = str(e)
        if x.left is None and not (
            t < len(run.actions)
            and o.text == run.actions[t]
            and x.error is None
            and follows(x.state, run, t)
        ):
            x.left, x.action = t, o.text

    def _finished(self, x: _Live) -> Rerun:
        reward, run = None, x.launch.run
        if x.error is None and x.state.ended != "censored":
            try:
                reward = x.env.score()
            except EnvironmentFailure as e:
                x.error = str(e)
        return Rerun(
            start=x.launch.start,
            left=len(run.actions) if x.left is None else min(x.left, len(run.actions)),
            reward=reward,
            censored=x.state.ended == "censored",
            forced=x.launch.forced is not None,
            action=x.action,
            actions=tuple(x.actions),
            tokens=x.tokens,
            error=x.error,
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


def seed_environment(environment: Environment, seed: int, key: str) -> None:
    """Seed an environment that draws random numbers."""
    if (give := getattr(environment, "seed", None)) is not None:
        give(int(content_hash([seed, key], size=6), 16))
