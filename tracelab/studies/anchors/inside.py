"""The white-box methods of a run: attention and its suppression, through the transformers engine.

They need the model's inside, so they run in the driver on an engine of their own, after the
rollouts, trace by trace. Their results are lines of the journal (`inside.jsonl`): a run that is
continued or rebuilt reads them there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from tracelab.core.errors import ConfigError
from tracelab.core.finding import Link, Score
from tracelab.engines import aio
from tracelab.engines.base import build
from tracelab.run.config import RunConfig
from tracelab.run.progress import RunProgress
from tracelab.run.wiring import wire
from tracelab.store.journal import Journal
from tracelab.studies.anchors import attend, suppress
from tracelab.studies.anchors.attend import AttentionMaps
from tracelab.studies.anchors.estimates import Estimates
from tracelab.studies.anchors.subject import Study

FILE = "inside.jsonl"
METHODS = ("attend", "suppress")

RECEIVERS = 20
"""Receiver heads, as in the paper; of a smaller model, `RECEIVER_SHARE` of its heads."""
RECEIVER_SHARE = 0.25


def asked(config: RunConfig) -> list[str]:
    """The white-box methods that a config asks for."""
    return [m for m in METHODS if m in config.resample.methods]


def look_inside(
    config: RunConfig, studies: Sequence[Study], journal: Journal, progress: RunProgress
) -> Estimates:
    """Scores and links of the white-box methods; what the journal has is not computed again.

    Raises:
        ConfigError: The run's engine has no model to look into.
    """
    methods = asked(config)
    done = read(journal)
    wanted = [s for s in studies if any((s.trace.trace_id, m) not in done for m in methods)]
    if wanted:
        if config.engine.kind == "scripted":
            raise ConfigError("`attend` and `suppress` need a model: engine.kind is scripted")
        own = config.engine.model_copy(update={"kind": "transformers"})
        progress.say("looking inside the model ...")
        engine: Any = build(wire(config.model_copy(update={"engine": own})).spec)
        with contextlib.closing(engine):
            if "suppress" in methods:
                for s in wanted:
                    done[s.trace.trace_id, "suppress"] = _suppressed(engine, s)
            if "attend" in methods:
                done |= _attended(engine, wanted)
        rows = [
            {
                "trace_id": trace,
                "method": method,
                "scores": [asdict(s) for s in found.scores],
                "links": [asdict(k) for k in found.links],
            }
            for (trace, method), found in done.items()
        ]
        journal.write_lines(FILE, rows)
    return merged(done, methods)


def read(journal: Journal) -> dict[tuple[str, str], Estimates]:
    """What was computed before, by trace and method."""
    return {
        (row["trace_id"], row["method"]): Estimates(
            [Score(**s) for s in row["scores"]], [Link(**k) for k in row["links"]]
        )
        for row in (journal.read_lines(FILE) if journal.has(FILE) else [])
    }


def merged(done: dict[tuple[str, str], Estimates], methods: Sequence[str]) -> Estimates:
    """All numbers of some methods."""
    found = Estimates()
    for (_, method), one in done.items():
        if method in methods:
            found.scores += one.scores
            found.links += one.links
    return found


def _suppressed(engine: Any, study: Study) -> Estimates:
    seen = aio.run(engine.suppressed(study.tokens, study.units))
    answer = suppress.answer_range(study.tokens, study.units)
    return Estimates(
        list(suppress.estimate(seen, study.units, answer)), suppress.links(seen, study.units)
    )


def _attended(engine: Any, studies: Sequence[Study]) -> dict[tuple[str, str], Estimates]:
    """Two passes: receiver heads are those that behave so over all traces of the run."""
    maps: list[AttentionMaps] = [aio.run(engine.attention(s.tokens, s.units)) for s in studies]
    shape = next((m.vertical.shape for m in maps if m.error is None), None)
    heads: Sequence[attend.Head] = ()
    if shape is not None:
        few = shape[0] * shape[1] * RECEIVER_SHARE < RECEIVERS
        heads = attend.receiver_heads(maps, top=RECEIVER_SHARE if few else RECEIVERS)
    return {
        (s.trace.trace_id, "attend"): Estimates(
            list(attend.estimate(m, s.units, heads)), list(attend.links(m, s.units))
        )
        for s, m in zip(studies, maps, strict=True)
    }
