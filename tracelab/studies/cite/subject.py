"""Contexts under study: rendered, placed, planned, and turned into work items.

A `ContextStudy` is a trace (the prompt's messages and the response), its sources as units of kind
`span`, its targets, and the masks asked so far. Items are made from masks on demand, so that what
stays in memory for a long run is the masks and the log-probabilities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, cast

import numpy as np

from tracelab.core.errors import PlanError
from tracelab.core.item import Item, ModelRef
from tracelab.core.trace import Rendering, TokenizedTrace, Trace
from tracelab.core.unit import Unit
from tracelab.stats.masks import Design, Purpose
from tracelab.store.load import LoadedTrace
from tracelab.studies.anchors.subject import Study
from tracelab.studies.cite.ablate import Knowledge
from tracelab.studies.cite.cites import Reply
from tracelab.studies.cite.context import Context, Mode, ablate, hex_mask, read_mask
from tracelab.studies.cite.lexical import bm25
from tracelab.studies.cite.targets import Continuation, Target


class ChatTokenizer(Protocol):
    """What the study of contexts needs of a tokenizer; `HFTokenizer` has it."""

    def chat_text(
        self, messages: Sequence[Mapping[str, Any]], rendering: Rendering, *, ask: bool = True
    ) -> str:
        """A prompt as text."""
        ...

    def encode_prompt(self, text: str, rendering: Rendering) -> tuple[int, ...]:
        """Tokens of a prompt."""
        ...

    def place_prompt(
        self, text: str, rendering: Rendering
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a prompt and where they start."""
        ...

    def place_response(
        self, text: str, known: Sequence[int] | None
    ) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a response and where they start."""
        ...

    def encode_text(self, text: str) -> tuple[int, ...]:
        """Tokens of a text on its own."""
        ...


@dataclass(slots=True)
class MaskRow:
    """One mask that was asked.

    Attributes:
        kept: One flag a source, True = kept.
        purpose: `design`, `held_out`, `full`, `empty`, or what else asked for it.
        design: Name of the design it was drawn by.
        blocks: Which sources shared a coin (see `tracelab.stats.masks.Design`); None where each
            had its own.
        cluster: Rows of one cluster and purpose shared coins.
        keys: Key of the item of each continuation; empty when the prompt could not be made.
        error: Why not.
    """

    kept: tuple[bool, ...]
    purpose: str
    design: str = ""
    blocks: tuple[int, ...] | None = None
    cluster: int = 0
    keys: tuple[str, ...] = ()
    error: str | None = None


@dataclass(slots=True)
class ContextStudy:
    """One context, its response, and the masks asked so far."""

    tokens: TokenizedTrace
    context: Context
    units: list[Unit]
    segmenter: str
    targets: tuple[Target, ...]
    continuations: tuple[Continuation, ...]
    mode: Mode
    placeholder: str
    rows: list[MaskRow] = field(default_factory=list)
    replacements: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    replies: dict[str, Reply] = field(default_factory=dict)
    """What the model said it bases each target on, where it was asked."""

    @property
    def trace(self) -> Trace:
        """The trace."""
        return self.tokens.trace

    @property
    def n(self) -> int:
        """Number of sources."""
        return len(self.context.sources)

    def knowledge(self, about: str, ablations: int) -> Knowledge:
        """What is known of the sources before anything is measured.

        Args:
            about: Text that is to be explained: a statement, or the whole response.
            ablations: Masks there will be; with at least one a source, words say nothing that
                masks do not say better, and are not consulted.
        """
        documents = np.array([s.document for s in self.context.sources])
        both = [(s.document, s.paragraph) for s in self.context.sources]
        number = {pair: k for k, pair in enumerate(dict.fromkeys(both))}
        paragraphs = np.array([number[pair] for pair in both])
        levels = [g for g in (documents, paragraphs) if 1 < len(np.unique(g)) < self.n]
        prior = None if ablations >= self.n else bm25([u.text for u in self.units], about)
        return Knowledge(groups=tuple(levels), prior=prior)

    @property
    def told(self) -> str:
        """All that is to be explained, as one text."""
        return " ".join(t.text for t in self.targets)

    def rows_for(self, *purposes: str) -> list[int]:
        """Rows that some purposes asked for."""
        return [i for i, r in enumerate(self.rows) if r.purpose in purposes]

    def design_of(self, rows: Sequence[int]) -> Design:
        """Some rows as a design."""
        some = [self.rows[i] for i in rows]
        own = tuple(range(self.n))
        return Design(
            "+".join(dict.fromkeys(r.design for r in some)),
            np.array([r.kept for r in some], dtype=np.bool_).reshape(len(some), self.n),
            tuple(cast(Purpose, r.purpose) for r in some),
            np.array([r.blocks or own for r in some], np.int64).reshape(len(some), self.n),
            np.array([r.cluster for r in some], dtype=np.int64),
        )

    def loaded(self) -> LoadedTrace:
        """As rows of the database."""
        return LoadedTrace(self.tokens, self.units, self.segmenter)

    def ask(
        self,
        design: Design,
        tokenizer: ChatTokenizer,
        model: ModelRef,
    ) -> list[Item]:
        """Add masks to the study; returns the items to observe.

        Equal masks are equal items, which the runtime asks once. A mask whose prompt the chat
        template refuses becomes a row with the reason.
        """
        items: list[Item] = []
        alone = np.asarray(design.alone().all(axis=1))
        first = 1 + max((r.cluster for r in self.rows), default=-1)
        for i, (mask, purpose) in enumerate(zip(design.masks, design.purposes, strict=True)):
            row = MaskRow(
                tuple(bool(k) for k in mask),
                purpose,
                design.name,
                None if alone[i] else tuple(int(b) for b in design.blocks[i]),
                first + int(design.clusters[i]),
            )
            self.rows.append(row)
            try:
                prompt = self.prompt(row.kept, len(self.rows) - 1, tokenizer)
            except PlanError as e:
                row.error = f"template: {e}"
                continue
            made = [
                Item(
                    model=model,
                    prefix_ids=prompt + self.tokens.response_ids[: c.after],
                    target_ids=c.ids,
                )
                for c in self.continuations
            ]
            row.keys = tuple(i.key for i in made)
            items += made
        return items

    def prompt(self, kept: tuple[bool, ...], number: int, tok: ChatTokenizer) -> tuple[int, ...]:
        """Tokens of the ablated prompt of a mask; its number picks among replacements.

        Raises:
            PlanError: The chat template refuses what is left.
        """
        if all(kept):
            return self.tokens.prompt_ids
        variants = self.replacements
        texts = variants[number % len(variants)] if variants else ()
        messages = ablate(
            self.context, kept, self.mode, placeholder=self.placeholder, replacements=texts
        )
        rendering = self.trace.rendering
        text = tok.chat_text([m.for_template() for m in messages], rendering)
        return tok.encode_prompt(text, rendering)

    def to_json(self) -> dict[str, Any]:
        """As a line of the journal; `from_json` inverts it."""
        return {
            **Study(self.tokens, self.units, self.segmenter).to_json(),
            "context": self.context.to_json(),
            "targets": [asdict(t) for t in self.targets],
            "continuations": [[c.after, list(c.ids)] for c in self.continuations],
            "mode": self.mode,
            "placeholder": self.placeholder,
            "notes": self.notes,
            "replies": {t: [r.text, r.error] for t, r in self.replies.items()},
            "masks": [
                [hex_mask(r.kept), r.purpose, r.design, r.blocks, r.cluster, r.keys, r.error]
                for r in self.rows
            ],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ContextStudy:
        """Rebuild a study from the journal."""
        base = Study.from_json(data)
        context = Context.from_json(data["context"])
        n = len(context.sources)
        return cls(
            base.tokens,
            context,
            base.units,
            base.segmenter,
            tuple(Target(**t) for t in data["targets"]),
            tuple(Continuation(a, tuple(ids)) for a, ids in data["continuations"]),
            cast(Mode, data["mode"]),
            data["placeholder"],
            [
                MaskRow(read_mask(k, n), p, d, b and tuple(b), c, tuple(keys), e)
                for k, p, d, b, c, keys, e in data["masks"]
            ],
            notes=list(data["notes"]),
            replies={t: Reply(*r) for t, r in data.get("replies", {}).items()},
        )
