"""Context pruning: does the model still say the same with only the spans that matter?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from tracelab.runtime.attribution import Attribution, sampling_of
from tracelab.runtime.explain import Explained
from tracelab.stats.faithfulness import ranking
from tracelab.stats.masks import Purpose, design
from tracelab.work import Observation, WorkItem

PRUNE = "prune"


@dataclass(frozen=True, slots=True)
class Pruned:
    """A context without the spans that matter least.

    Attributes:
        kept: Indices of the spans that stay, in the order of the text.
        tokens: Tokens of the whole prompt.
        tokens_left: Of the pruned one.
        response: What the model writes now (greedily, or as the run samples); None if it failed.
        same: Whether that is the response that was explained, white space aside.
        logprob_change: log p of the explained response, pruned minus whole context, nats; None
            when either failed.
        error: Why there is no response.
    """

    kept: tuple[int, ...]
    tokens: int
    tokens_left: int
    response: str | None
    same: bool | None
    logprob_change: float | None
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "kept": list(self.kept), "tokens": self.tokens, "tokens_left": self.tokens_left,
            "response": self.response, "same": self.same,
            "logprob_change": self.logprob_change, "error": self.error,
        }  # fmt: skip


def top_spans(found: Explained, k: int) -> tuple[int, ...]:
    """The k spans to keep: those whose positive weights over all targets sum to most."""
    total = np.zeros(found.study.n)
    for t in found.study.targets:
        total += np.maximum(np.nan_to_num(found.weights(t.name)), 0.0)
    return tuple(sorted(int(i) for i in ranking(total)[:k]))


def prune(work: Attribution, found: Explained, k: int) -> Pruned:
    """Answer again with the k top spans.

    Args:
        work: What asked the engine before.
        found: The explained context.
        k: Spans to keep; more than there are keeps all.

    Raises:
        PlanError: The chat template refuses what is left.
    """
    study = found.study
    kept = top_spans(found, k)
    mask = np.zeros((2, study.n), dtype=np.bool_)
    mask[0, list(kept)] = True
    mask[1] = True
    first = len(study.rows)
    score = study.ask(design(PRUNE, mask, cast(Purpose, PRUNE)), work.tokenizer, work.model)
    prompt = study.prompt(study.rows[first].kept, first, work.tokenizer)
    again = WorkItem(
        model=work.model, prefix_ids=prompt, sampling=sampling_of(work.config),
        seed=work.config.seed, intervention=PRUNE,
    )  # fmt: skip
    work.sink.expect([study])
    work.observe("pruned context", score, work.sink)
    written: list[Observation] = []
    work.observe("answer from the pruned context", [again], written.extend)
    (o,) = written
    text = None if o.error is not None else o.text
    before, after = (_whole(work, found, first + i) for i in (1, 0))
    same = None if text is None else _words(text) == _words(study.trace.response)
    return Pruned(
        kept, len(study.tokens.prompt_ids), len(prompt), text, same,
        None if before is None or after is None else after - before, o.error,
    )  # fmt: skip


def _whole(work: Attribution, found: Explained, row: int) -> float | None:
    values = work.sink.response(found.study, row)
    return None if values is None else float(values.sum())


def _words(text: str) -> Sequence[str]:
    return text.split()
