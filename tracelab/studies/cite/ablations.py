"""One context while it is worked on: the masks that were asked, and what was heard of them.

A mask becomes a prompt, and with each continuation a request for log-probabilities. Rows of masks
are numbered as they are asked, which never depends on the order in which answers arrive. A probe
that failed, or whose log-probabilities are no numbers, is a row of NaN with its reason. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.finding import Score
from tracelab.core.flow import Ask, Flow
from tracelab.core.item import Item, Observation
from tracelab.core.messages import as_message
from tracelab.core.study import StudyContext
from tracelab.stats.effects import SampledOutcomes
from tracelab.stats.lasso import Floats
from tracelab.stats.masks import Bools, Design, Purpose, design
from tracelab.stats.surrogate import whole_logit
from tracelab.studies.chat import Chat
from tracelab.studies.cite.attribution import Attribution, SpanScores
from tracelab.studies.cite.case import ContextCase
from tracelab.studies.cite.context import ablate
from tracelab.studies.cite.grounding import label, some_act, undecided
from tracelab.studies.cite.lexical import bm25
from tracelab.studies.cite.methods.registry import ALWAYS
from tracelab.studies.cite.options import CiteOptions
from tracelab.studies.cite.plan import Knowledge
from tracelab.studies.cite.rows import ProbeRow, TargetRow
from tracelab.studies.cite.targets import Target

QUESTION = "question"
"""Purpose of masks that a method asked for after seeing others."""
_NAN = "not_a_number: the engine returned a log-probability that is not finite"


@dataclass(frozen=True, slots=True)
class TokenRange:
    """One target of a response.

    Attributes:
        name: As in `scores.target`: `sentence:3`, ...
        start: First token.
        end: One past the last.
        rather_than: Token range of the text it is held against, for a contrast.
    """

    name: str
    start: int
    end: int
    rather_than: tuple[int, int] | None = None

    def logprob(self, logprobs: Floats) -> Floats:
        """Σ log p of its tokens [m], nats, from those of all tokens [m, T]; NaN where any is."""
        total = np.asarray(logprobs[:, self.start : self.end].sum(axis=1), dtype=np.float64)
        if self.rather_than is None:
            return total
        a, b = self.rather_than
        return np.asarray(total - logprobs[:, a:b].sum(axis=1), dtype=np.float64)

    def outcome(self, logprobs: Floats) -> Floats:
        """What is explained [m]: whole-target log-odds; of a contrast, log p(A) - log p(B)."""
        logprob = self.logprob(logprobs)
        return logprob if self.rather_than is not None else whole_logit(logprob)


@dataclass(slots=True)
class MaskRow:
    """One mask that was asked.

    Attributes:
        kept: One flag a source, True = kept.
        purpose: `design`, `held_out`, `full`, `empty`, or what else asked for it.
        blocks: Which sources shared a coin (see `tracelab.stats.masks.Design`); None where each
            had its own.
        cluster: Rows of one cluster and purpose shared coins.
        keys: Key of the item of each continuation; empty when the prompt could not be made.
        error: Why not.
    """

    kept: Bools
    purpose: str
    blocks: tuple[int, ...] | None = None
    cluster: int = 0
    keys: tuple[str, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class Ablations:
    """The work on one context.

    Attributes:
        case: The context, its response and targets.
        ctx: What the study was given.
        rows: Masks so far.
        replacements: Texts that stand for ablated sources, one list a variant; empty without.
        targets: What was found of each target, once the design was measured.
        found: What methods say, by target and method.
    """

    case: ContextCase
    ctx: StudyContext[CiteOptions]
    rows: list[MaskRow] = field(default_factory=list)
    replacements: list[list[str]] = field(default_factory=list)
    targets: list[TargetRow] = field(default_factory=list)
    found: dict[str, dict[str, Attribution]] = field(default_factory=dict)
    _chat: Chat = field(init=False)
    _owed: dict[str, tuple[Item, int, int]] = field(default_factory=dict)
    _values: dict[str, Floats] = field(default_factory=dict)
    _errors: dict[str, str] = field(default_factory=dict)
    _first: dict[bytes, int] = field(default_factory=dict)
    _last: dict[bytes, int] = field(default_factory=dict)
    _apart: list[bool] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chat = Chat(self.ctx.tokenizer, self.case.trace.rendering)

    @property
    def options(self) -> CiteOptions:
        """The study's options."""
        return self.ctx.options

    @property
    def n(self) -> int:
        """Number of sources."""
        return len(self.case.units)

    @property
    def seed(self) -> list[int]:
        """Seed of everything random about the context."""
        return [self.ctx.seed, int(self.case.trace_id, 16)]

    def knowledge(self, about: str) -> Knowledge:
        """What is known of the sources before anything is measured.

        Args:
            about: Text that is to be explained: a statement, or all of them. With at least one
                ablation a source its words say nothing that masks do not say better, and are not
                consulted.
        """
        sources = self.case.context.sources
        documents = np.array([s.document for s in sources])
        both = [(s.document, s.paragraph) for s in sources]
        number = {pair: k for k, pair in enumerate(dict.fromkeys(both))}
        paragraphs = np.array([number[pair] for pair in both])
        levels = [g for g in (documents, paragraphs) if 1 < len(np.unique(g)) < self.n]
        few = self.options.ablations < self.n
        prior = bm25([u.text for u in self.case.units], about) if few else None
        return Knowledge(groups=tuple(levels), prior=prior)

    def scores(self, method: str, target: str) -> SpanScores:
        """Makes the scores of a method about a target."""
        return SpanScores(self.case.trace_id, self.case.units, method, target, self.options.level)

    def weights(self, target: str, method: str) -> Floats:
        """The ranking of the sources [n] by a method; NaN where nothing is known."""
        weights = self.found[target][method].weights
        return np.full(self.n, np.nan) if weights is None else weights

    def effects(self, target: str, method: str) -> list[Score]:
        """One score a source: the effect of keeping it."""
        scores = self.found[target][method].scores
        return sorted((s for s in scores if s.metric == "effect"), key=lambda s: s.unit_index)

    def rows_for(self, *purposes: str) -> list[int]:
        """Rows that some purposes asked for."""
        return [i for i, r in enumerate(self.rows) if r.purpose in purposes]

    def design_of(self, rows: Sequence[int]) -> Design:
        """Some rows as a design."""
        some = [self.rows[i] for i in rows]
        own = tuple(range(self.n))
        return Design(
            "asked",
            np.array([r.kept for r in some], dtype=np.bool_).reshape(len(some), self.n),
            tuple(cast(Purpose, r.purpose) for r in some),
            np.array([r.blocks or own for r in some], np.int64).reshape(len(some), self.n),
            np.array([r.cluster for r in some], dtype=np.int64),
        )

    def prompt(self, number: int) -> tuple[int, ...]:
        """Tokens of the ablated prompt of a row; its number picks among replacements.

        Raises:
            PlanError: The chat template refuses what is left.
        """
        kept = self.rows[number].kept
        if kept.all():
            return self.case.tokens.prompt_ids
        variants = self.replacements
        left = ablate(
            self.case.context,
            [bool(k) for k in kept],
            self.case.mode,
            placeholder=self.options.placeholder,
            replacements=variants[number % len(variants)] if variants else (),
        )
        text = self._chat.text([as_message(m) for m in left], self.case.tools)
        return self.ctx.tokenizer.encode_prompt(text, self.case.trace.rendering)

    def add(self, masks: Design) -> range:
        """Add masks, to be asked by `ask`; a prompt that the template refuses is a reason.

        Returns:
            The numbers of their rows.
        """
        alone = np.asarray(masks.alone().all(axis=1))
        cluster = 1 + max((r.cluster for r in self.rows), default=-1)
        first = len(self.rows)
        for i, (mask, purpose) in enumerate(zip(masks.masks, masks.purposes, strict=True)):
            number = len(self.rows)
            row = MaskRow(
                mask.copy(),
                purpose,
                None if alone[i] else tuple(int(b) for b in masks.blocks[i]),
                cluster + int(masks.clusters[i]),
            )
            self.rows.append(row)
            self._first.setdefault(mask.tobytes(), number)
            self._last[mask.tobytes()] = number
            try:
                self._request(number)
            except PlanError as e:
                row.error = f"template: {e}"
                self._tell(f"none:{number}", number, 0)
        return range(first, len(self.rows))

    def _request(self, number: int) -> None:
        prompt, response = self.prompt(number), self.case.tokens.response_ids
        keys = []
        for c, continuation in enumerate(self.case.continuations):
            item = Item(
                model=self.ctx.model,
                prefix_ids=prompt + response[: continuation.after],
                target_ids=continuation.ids,
            )
            keys.append(item.key)
            if item.key not in self._values and item.key not in self._errors:
                self._owed.setdefault(item.key, (item, number, c))
        self.rows[number].keys = tuple(keys)

    def ask(self, stage: str, rows: Sequence[int]) -> Iterator[Ask]:
        """Ask what is not known yet of some rows; to be yielded from."""
        keys = dict.fromkeys(k for r in rows for k in self.rows[r].keys if k in self._owed)
        if keys:
            items = [self._owed[k][0] for k in keys]
            yield Ask(stage, items, self._take, self._expected(len(items)))

    def _expected(self, items: int) -> Sequence[int]:
        return ()

    def _take(self, batch: Sequence[Observation]) -> None:
        for o in batch:
            if (owed := self._owed.pop(o.key, None)) is None:
                continue
            row, why = o.token_logprobs, o.error
            if why is None and (row is None or not all(map(math.isfinite, row))):
                why = _NAN
            if why is not None:
                self._errors[o.key] = why
            else:
                self._values[o.key] = np.asarray(row, dtype=np.float64)
            self._tell(o.key, owed[1], owed[2], o.cached_tokens)

    def _tell(self, key: str, number: int, c: int, cached: int | None = None) -> None:
        """Emit a probe; masks with equal prompts share it."""
        row, value = self.rows[number], self._values.get(key)
        self.ctx.emit([
            ProbeRow(
                trace_id=self.case.trace_id,
                item_key=key,
                unit_index=number,
                intervention=f"{self.case.mode}:{row.purpose}:{hex_mask(row.kept)}",
                target="response" if c == 0 else f"continuation:{c}",
                logprob=None if value is None else min(float(value.sum()), 0.0),
                n_target_tokens=len(self.case.continuations[c].ids),
                cached_tokens=cached,
                error=row.error or self._errors.get(key),
            )
        ])  # fmt: skip

    def outcome(self, target: Target, rows: Sequence[int]) -> Floats:
        """What is explained of a target under some rows [m]; NaN where a mask failed."""
        width = target.end - target.start
        parts = [self._columns(rows, target.continuation, target.start, target.end)]
        against = None
        if target.rather_than is not None:
            size = len(self.case.continuations[target.rather_than].ids)
            parts.append(self._columns(rows, target.rather_than, 0, size))
            against = (width, width + size)
        return TokenRange(target.name, 0, width, against).outcome(np.hstack(parts))

    def _columns(self, rows: Sequence[int], c: int, start: int, end: int) -> Floats:
        out = np.full((len(rows), end - start), np.nan)
        for k, i in enumerate(rows):
            if (value := self._value(i, c)) is not None:
                out[k] = value[start:end]
        return out

    def _value(self, row: int, c: int) -> Floats | None:
        keys = self.rows[row].keys
        return self._values.get(keys[c]) if keys else None

    def values(self, target: Target, masks: Bools) -> Flow[Floats]:
        """Outcomes of a target under masks [m], asked where they are not known; NaN if failed."""
        fresh = {m.tobytes(): m for m in masks if m.tobytes() not in self._last}
        if fresh:
            self.add(design(QUESTION, np.array(list(fresh.values())), cast(Purpose, QUESTION)))
        rows = [self._last[m.tobytes()] for m in masks]
        yield from self.ask("questions", rows)
        return self.outcome(target, rows)

    def sampled(self, target: Target, rows: Sequence[int]) -> SampledOutcomes | None:
        """What is known of outcomes that are means of samples; None where they are not."""
        return None

    def logprob(self, target: Target, kept: Bools) -> float | None:
        """Log-probability of a target (its difference, for a contrast) under one mask.

        None when it was not measured, or failed.
        """
        at = self._first.get(np.asarray(kept, dtype=np.bool_).tobytes())
        mine = None if at is None else self._value(at, target.continuation)
        if at is None or mine is None:
            return None
        total = float(mine[target.start : target.end].sum())
        if target.rather_than is None:
            return total
        other = self._value(at, target.rather_than)
        return None if other is None else total - float(other.sum())

    def response(self, row: int) -> Floats | None:
        """Log-probabilities of the response under one row's mask [T]; None if it failed."""
        return self._value(row, 0)

    def known(self, mask: Bools) -> bool:
        """Whether a mask was asked."""
        return mask.tobytes() in self._first

    def row_of(self, mask: Bools) -> int:
        """Number of the row that asked a mask first."""
        return self._first[mask.tobytes()]

    def score(
        self, stage: str, purpose: str, number: int, items: Mapping[str, tuple[Item, str]]
    ) -> Flow[dict[str, Floats | None]]:
        """Ask texts of one's own after the prompt of a row.

        Args:
            stage: For people.
            purpose: In `probes.intervention`.
            number: The row.
            items: By key: what is asked, and its name in `probes.target`.

        Returns:
            By key, log-probabilities of the tokens, nats; None where it failed.
        """
        told: dict[str, Floats | None] = {}
        mask = f"{self.case.mode}:{purpose}:{hex_mask(self.rows[number].kept)}"

        def take(batch: Sequence[Observation]) -> None:
            for o in batch:
                if o.key in told:
                    continue
                row, why = o.token_logprobs, o.error
                if why is None and (row is None or not all(map(math.isfinite, row))):
                    why = _NAN
                found = None if why is not None else np.asarray(row, dtype=np.float64)
                told[o.key] = found
                item, target = items[o.key]
                if o.key in self._values or o.key in self._errors:
                    continue  # a probe that has its row
                self.ctx.emit([
                    ProbeRow(
                        trace_id=self.case.trace_id,
                        item_key=o.key,
                        unit_index=number,
                        intervention=mask,
                        target=target,
                        logprob=None if found is None else min(float(found.sum()), 0.0),
                        n_target_tokens=len(item.target_ids or ()),
                        cached_tokens=o.cached_tokens,
                        error=why,
                    )
                ])  # fmt: skip

        if items:
            yield Ask(stage, [item for item, _ in items.values()], take)
        self._apart += [told.get(k) is None for k in items]
        return {k: told.get(k) for k in items}

    def measured(self, target: Target, kept: Bools) -> float | None:
        """What tests of the scores look at under one mask: its log-probability.

        None when it was not measured, or failed.
        """
        return self.logprob(target, kept)

    def drop(self, target: Target, without: Bools) -> float | None:
        """What a target loses when some sources are left out of the whole context."""
        full, left = self.measured(target, np.full(self.n, True)), self.measured(target, without)
        return None if full is None or left is None else full - left

    def label(self, target: Target, alone: float | None) -> TargetRow:
        """What a target rests on, once its effects are known.

        Args:
            target: The target.
            alone: See `tracelab.studies.cite.alone`.
        """
        found, contrast = self.found[target.name][ALWAYS], target.rather_than is not None
        full, empty = (self.logprob(target, np.full(self.n, kept)) for kept in (True, False))
        size = target.end - target.start
        says = label(
            full, empty, size, self.effects(target.name, ALWAYS), acts=some_act(found),
            alone=alone, contrast=contrast,
        )  # fmt: skip
        position = self.case.targets.index(target)
        return TargetRow(
            self.case.trace_id, target.name, position, target.kind, target.text, target.other,
            size, full, empty, alone, says, found.n,
        )  # fmt: skip

    def undecided(self) -> list[Target]:
        """Targets whose label may need what they are worth by themselves (`alone`)."""
        every, none = (np.full(self.n, kept) for kept in (True, False))
        return [
            t for t in self.case.targets
            if undecided(
                self.logprob(t, every), self.logprob(t, none), t.end - t.start,
                contrast=t.rather_than is not None,
            )
        ]  # fmt: skip

    def losses(self) -> tuple[int, int, int]:
        """What was had and came to no answer: ungraded, truncated, unanswered."""
        return 0, 0, 0

    def counts(self) -> tuple[int, int]:
        """Probes, one a mask and continuation or a text of its own, and those that failed."""
        each = len(self.case.continuations)
        refused = each * sum(r.error is not None for r in self.rows)
        heard = [k for r in self.rows for k in r.keys]
        failed = sum(k in self._errors for k in heard)
        failed += refused + sum(self._apart)
        good = sum(k in self._values for k in heard) + self._apart.count(False)
        return failed + good, failed


def hex_mask(kept: Sequence[bool] | Bools) -> str:
    """A mask as hexadecimal digits; source 0 is the highest bit of the first digit."""
    padded = [*kept, *[False] * (-len(kept) % 4)]
    digits = (padded[i : i + 4] for i in range(0, len(padded), 4))
    return "".join(f"{sum(int(b) << (3 - j) for j, b in enumerate(d)):x}" for d in digits)
