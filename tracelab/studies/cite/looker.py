"""The white-box methods of contexts: attention to spans, and head weights learned from ablations.

They need the model's inside, so they run in the driver on a transformers engine of their own, or
one that is lent, after the ablations of a group of contexts. Findings are lines of the journal
(`heads.jsonl`): a run that is continued or rebuilt reads them there, unless the outcomes they were
learned from have changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tracelab.engines import aio
from tracelab.engines.base import build
from tracelab.run.config import RunConfig
from tracelab.run.wiring import wire
from tracelab.store.journal import Journal
from tracelab.studies.cite import heads
from tracelab.studies.cite.explain import Explained, seed_of
from tracelab.studies.cite.heads import AT2, Example, Finding
from tracelab.studies.cite.probes import Floats, ProbeSink
from tracelab.studies.cite.subject import ContextStudy

FILE = "heads.jsonl"


def asked(config: RunConfig) -> list[str]:
    """The white-box methods that a config asks for."""
    return [m for m in heads.METHODS if m in config.context.methods]


@dataclass(slots=True)
class Looker:
    """Adds the findings of white-box methods to explained contexts.

    Attributes:
        config: What is asked.
        journal: Where findings are kept; None keeps none.
        say: Told before the model is loaded.
        lent: An engine that can look inside the model and is somebody else's to close.
    """

    config: RunConfig
    journal: Journal | None = None
    say: Callable[[str], None] = lambda _: None
    lent: Any = None
    _done: dict[str, dict[str, Any]] = field(default_factory=dict)
    _engine: Any = None

    def __post_init__(self) -> None:
        if self.journal is not None and self.journal.has(FILE):
            self._done = {row["trace_id"]: row for row in self.journal.read_lines(FILE)}

    def close(self) -> None:
        """Drop the model. Idempotent."""
        if self._engine is not None and self._engine is not self.lent:
            self._engine.close()
        self._engine = None

    def __call__(self, group: Sequence[Explained], sink: ProbeSink) -> None:
        """Look into the model at some contexts together, or read what was found; fills `found`."""
        methods = asked(self.config)
        if not methods:
            return
        now = {e.study.trace.trace_id: _fingerprint(e.study, sink) for e in group}
        if any(self._done.get(t, {}).get("of") != of for t, of in now.items()):
            for e, findings in zip(group, self._look(group, sink), strict=True):
                trace = e.study.trace.trace_id
                kept = [asdict(f) for f in findings if f.method in methods]
                self._done[trace] = {"trace_id": trace, "of": now[trace], "findings": kept}
            if self.journal is not None:
                self.journal.write_lines(FILE, self._done.values())
        for e in group:
            self.place(e)

    def place(self, explained: Explained) -> None:
        """Add what the journal has about a context."""
        study = explained.study
        row = self._done.get(study.trace.trace_id, {"findings": []})
        for f in (Finding(**d) for d in row["findings"]):
            explained.found[f.target][f.method] = heads.attribution(
                study.trace.trace_id, study.units, f, self.config.context.level
            )

    def _look(self, group: Sequence[Explained], sink: ProbeSink) -> Iterator[list[Finding]]:
        """Findings of each context, by both methods; weights of heads are learned from all."""
        self._engine = self._engine or self.lent
        if self._engine is None:
            self.say("looking inside the model ...")
            own = self.config.engine.model_copy(update={"kind": "transformers"})
            self._engine = build(wire(self.config.model_copy(update={"engine": own})).spec)
        out: list[list[Finding]] = [[] for _ in group]
        names: list[str] = []
        examples: list[Example] = []
        place: list[int] = []
        for k, e in enumerate(group):
            study = e.study
            rows = study.rows_for("design")
            seen, why = self._attention(study)
            design = study.design_of(rows)
            fold = heads.folds(design.clusters, np.random.default_rng(
                seed_of(study, self.config.seed)))  # fmt: skip
            for t in study.targets:
                phi = seen.get(t.name)
                if phi is None:
                    out[k] += [heads.unseen(t.name, m, study.n, why) for m in heads.METHODS]
                    continue
                out[k].append(heads.attention(t.name, phi))
                names.append(t.name)
                place.append(k)
                y = sink.measured(study, t, rows).outcome
                examples.append(Example(phi, design.masks, y, fold))
        if AT2 in asked(self.config):
            for k, finding in zip(place, heads.learn(names, examples), strict=True):
                out[k].append(finding)
        yield from out

    def _attention(self, study: ContextStudy) -> tuple[dict[str, Floats], str]:
        """Attention [heads, spans] of each target, one pass a continuation; or why there is none.

        A contrast is looked at while the model writes the text itself, not the other one.
        """
        prompt = study.tokens.prompt_ids
        spans = [(u.token_start, u.token_end) for u in study.units]
        seen: dict[str, Floats] = {}
        why = ""
        for c, continuation in enumerate(study.continuations):
            mine = [t for t in study.targets if t.continuation == c]
            if not mine:
                continue
            at = len(prompt) + continuation.after
            ids = [*prompt, *study.tokens.response_ids[: continuation.after], *continuation.ids]
            found = aio.run(self._engine.span_attention(
                ids, spans, [(at + t.start, at + t.end) for t in mine]))  # fmt: skip
            if found.error is not None:
                why = found.error
                continue
            both = zip(mine, found.values, strict=True)
            seen |= {t.name: v.astype(np.float64) for t, v in both}
        return seen, why


def _fingerprint(study: ContextStudy, sink: ProbeSink) -> str:
    """Of everything that findings about a context are made of, but the model."""
    rows = study.rows_for("design")
    digest = hashlib.blake2b(study.design_of(rows).masks.tobytes(), digest_size=12)
    for t in study.targets:
        digest.update(t.name.encode())
        digest.update(sink.measured(study, t, rows).outcome.tobytes())
    return digest.hexdigest()
