"""Contexts from record to scores: respond, replace, ask masks, estimate, test the estimate.

Everything the engines do goes through one function, `Observe`, so that a run with a journal and
`tracelab cite` share this code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import Reject
from tracelab.core.trace import Rendering
from tracelab.run.config import RunConfig
from tracelab.sources.context import ContextRecord
from tracelab.stats import masks
from tracelab.studies.cite import ablate, cites
from tracelab.studies.cite.begin import Recipe, begin, prompt_of
from tracelab.studies.cite.explain import Explained, ask_again, explain, seed_of, test
from tracelab.studies.cite.parts import Cut
from tracelab.studies.cite.probes import Floats, ProbeSink
from tracelab.studies.cite.subject import ChatTokenizer, ContextStudy
from tracelab.studies.cite.targets import Target
from tracelab.text.segment import segment

Observe = Callable[[str, Sequence[Item], Callable[[list[Observation]], None]], None]
"""Name of a stage, items, and who receives their observations; see `Run.observe`."""

BASE = "base"
"""Intervention of generated responses: the one that base traces have."""
REPLACE = "replace"
"""Intervention of replacements of sources."""

VARIANTS = 4
"""Replacements of a source; masks take turns with them."""
CHUNK_TOKENS = 1_000_000
"""Prompt tokens, over all masks, of the contexts that are worked on together."""


def cut_of(config: RunConfig) -> Cut:
    """How the config cuts contexts."""
    c = config.context
    return Cut(c.unit, c.segmenter, c.max_sources, tuple(c.roles), c.exchanges)


def recipe_of(config: RunConfig, context_length: int) -> Recipe:
    """How the config studies contexts."""
    c = config.context
    rendering: Rendering = "raw" if config.source_options.rendering == "raw" else "chat"
    return Recipe(c.unit, c.segmenter, c.mode, c.placeholder, rendering, context_length)


def sampling_of(config: RunConfig) -> Sampling:
    """How responses are written."""
    s = config.sampling
    return Sampling(s.temperature, s.top_p, s.top_k, s.max_tokens)


@dataclass(slots=True)
class Attribution:
    """One study of many contexts.

    Attributes:
        config: What to do.
        tokenizer: The model's.
        model: The model.
        context_length: Longest prompt and response, tokens.
        observe: Asks engines.
        sink: Receives probes.
        rejects: What could not be studied, and why; filled on the way.
        look: Adds what is seen inside the model to contexts that are explained.
    """

    config: RunConfig
    tokenizer: ChatTokenizer
    model: ModelRef
    context_length: int
    observe: Observe
    sink: ProbeSink
    rejects: list[Reject]
    look: Callable[[Sequence[Explained], ProbeSink], None] | None = None

    def respond(self, records: Sequence[ContextRecord]) -> list[ContextStudy]:
        """Studies of the records; the model first writes the responses that are missing."""
        recipe = recipe_of(self.config, self.context_length)
        items = self.response_items(records)
        seen: dict[str, Observation] = {}
        self.observe(
            "responses", list(items.values()), lambda b: seen.update({o.key: o for o in b})
        )
        studies: dict[str, ContextStudy] = {}
        for i, record in enumerate(records):
            try:
                if i not in items:
                    if _answered(record):
                        study = begin(record, self.tokenizer, recipe)
                    else:
                        continue  # rejected when its item was made
                else:
                    o = seen[items[i].key]
                    if o.error is not None:
                        raise PlanError(f"no response: {o.error}")
                    study = begin(
                        record, self.tokenizer, recipe,
                        response=o.text, token_ids=o.token_ids, model=self.model.name,
                    )  # fmt: skip
                if study.trace.trace_id in studies:
                    raise PlanError(
                        "the same messages and response as an earlier record; put several targets "
                        "into one record"
                    )
                studies[study.trace.trace_id] = study
            except PlanError as e:
                self.reject(record, e)
        return list(studies.values())

    def response_items(self, records: Sequence[ContextRecord]) -> dict[int, Item]:
        """One generation for each record that has no response, by its place."""
        recipe = recipe_of(self.config, self.context_length)
        items = {}
        for i, record in enumerate(records):
            if _answered(record):
                continue
            try:
                items[i] = Item(
                    model=self.model,
                    prefix_ids=prompt_of(record, self.tokenizer, recipe),
                    sampling=sampling_of(self.config),
                    seed=self.config.seed,
                    intervention=BASE,
                )
            except PlanError as e:
                self.reject(record, e)
        return items

    def reject(self, record: ContextRecord, why: PlanError) -> None:
        """Note a record that cannot be studied."""
        self.rejects.append(Reject(record.source, record.line, f"{record.name}: {why}", ""))

    def chunks(self, studies: Sequence[ContextStudy]) -> Iterator[list[ContextStudy]]:
        """Studies in groups whose items fit in memory together."""
        held: list[ContextStudy] = []
        tokens = 0
        most = self.config.context.ablations + self.config.context.held_out
        for s in studies:
            size = most * (len(s.tokens.prompt_ids) + len(s.tokens.response_ids))
            if held and tokens + size > CHUNK_TOKENS:
                yield held
                held, tokens = [], 0
            held.append(s)
            tokens += size
        if held:
            yield held

    def measure(self, studies: Sequence[ContextStudy]) -> list[Explained]:
        """Ask masks of some studies, estimate, and test the estimates."""
        c = self.config.context
        if c.mode == "resample":
            self._replace(studies)
        rng = [np.random.default_rng(seed_of(s, self.config.seed)) for s in studies]
        first: list[Item] = []
        for s in studies:
            own = masks.anchors(s.n)
            if ablate.LEAVE_ONE_OUT in c.methods:
                own = masks.leave_one_out(s.n)
            first += s.ask(own, self.tokenizer, self.model)
        plans = {
            k: ablate.plan(
                s.n,
                c.ablations,
                rng=rng[k],
                knowledge=s.knowledge(s.told, c.ablations),
                width=c.width,
                level=c.level,
            )  # fmt: skip
            for k, s in enumerate(studies)
        }
        asked: dict[int, int] = {}
        round_ = 0
        while plans:
            for k, plan in list(plans.items()):
                s = studies[k]
                try:
                    drawn = plan.send(self._outcomes(s, asked[k])) if k in asked else next(plan)
                except StopIteration:
                    del plans[k]
                    continue
                asked[k] = len(s.rows)
                first += s.ask(drawn, self.tokenizer, self.model)
            if plans:
                name = "ablations" if round_ == 0 else f"ablations, round {round_ + 1}"
                self._ask(name, first, studies)
                first, round_ = [], round_ + 1
        for k, s in enumerate(studies):
            seen = s.design_of(s.rows_for("design"))
            fresh = masks.held_out(s.n, c.held_out, rng[k], seen)
            first += s.ask(fresh, self.tokenizer, self.model)
        self._ask("held-out ablations", first, studies)
        if cites.METHOD in c.methods:
            self._cite(studies)
        found = [explain(s, self.sink, self.config) for s in studies]
        if self.look is not None:
            self.look(found, self.sink)
        while wants := [
            (e, more) for e in found if (more := ask_again(e, self.sink, self.config)) is not None
        ]:
            again = [i for e, more in wants for i in e.study.ask(more, self.tokenizer, self.model)]
            self._ask("questions", again, studies)
        tops = [i for e in found for i in e.study.ask(e.test_masks(c), self.tokenizer, self.model)]
        self._ask("top spans", tops, studies)
        return [test(e, self.sink, self.config) for e in found]

    def _outcomes(self, study: ContextStudy, first: int) -> Floats:
        """Outcomes [rows, targets] of the rows since one; NaN where a mask failed."""
        rows = range(first, len(study.rows))
        columns = [self.sink.measured(study, t, rows).outcome for t in study.targets]
        return np.stack(columns, axis=1)

    def _ask(self, stage: str, items: Sequence[Item], studies: Sequence[ContextStudy]) -> None:
        self.sink.expect(studies)
        if items:
            self.observe(stage, items, self.sink)

    def _cite(self, studies: Sequence[ContextStudy]) -> None:
        """Let the model say which sources support each target; fills `replies`."""
        asked: dict[str, list[tuple[ContextStudy, str]]] = {}
        items = []
        for s in studies:
            for t in s.targets:
                try:
                    item = citation(s, t, self.tokenizer, self.model, self.config)
                except PlanError as e:
                    s.replies[t.name] = cites.Reply(None, f"template: {e}")
                    continue
                asked.setdefault(item.key, []).append((s, t.name))
                items.append(item)

        def hear(batch: list[Observation]) -> None:
            for o in batch:
                cut = "truncated: the reply is cut off" if o.finish_reason == "length" else None
                said = cites.Reply(None if o.error else o.text, o.error or cut)
                for s, target in asked[o.key]:
                    s.replies[target] = said

        self.observe("citations", items, hear)

    def _replace(self, studies: Sequence[ContextStudy]) -> None:
        """Let the model write replacements of every source, from the prompt before it."""
        asked: dict[str, list[tuple[ContextStudy, int]]] = {}
        items = []
        for s in studies:
            s.replacements = [[s.placeholder] * s.n for _ in range(VARIANTS)]
            for u in s.units:
                size = u.token_end - u.token_start
                if size == 0 or u.token_start == 0:
                    continue
                sampling = replace(sampling_of(self.config), max_tokens=size + 8)
                if sampling.temperature == 0:
                    sampling = replace(sampling, temperature=1.0)
                item = Item(
                    model=self.model,
                    prefix_ids=s.tokens.prompt_ids[: u.token_start],
                    sampling=sampling,
                    seed=self.config.seed,
                    replicates=VARIANTS,
                    intervention=REPLACE,
                )
                asked.setdefault(item.key, []).append((s, u.index))
                items.append(item)

        def write(batch: list[Observation]) -> None:
            for o in batch:
                for s, i in asked[o.key]:
                    if o.error is None and (text := _like(o.text, s.units[i].text, s)):
                        s.replacements[o.replicate % VARIANTS][i] = text

        self.observe("replacements", items, write)


def citation(
    study: ContextStudy, target: Target, tokenizer: ChatTokenizer, model: ModelRef,
    config: RunConfig,
) -> Item:  # fmt: skip
    """The request that asks which sources support a target.

    Raises:
        PlanError: The chat template refuses a plain question.
    """
    asked = cites.question([u.text for u in study.units], study.trace.response, target.text)
    rendering = study.trace.rendering
    text = tokenizer.chat_text([{"role": "user", "content": asked}], rendering)
    most = config.sampling.max_tokens
    return Item(
        model=model,
        prefix_ids=tokenizer.encode_prompt(text, rendering),
        sampling=Sampling(temperature=0.0, max_tokens=most, json_schema=cites.schema(study.n)),
        seed=config.seed,
    )


def _answered(record: ContextRecord) -> bool:
    return record.response is not None or record.acts is not None


def _like(text: str, original: str, study: ContextStudy) -> str:
    """As many sentences of a text as the one it replaces has."""
    cutter = study.segmenter.partition("/")[2]
    wanted = max(1, len(segment(original.strip(), cutter)))
    return "".join(s.text for s in segment(text.strip(), cutter)[:wanted]).strip()
