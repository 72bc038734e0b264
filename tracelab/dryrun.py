"""What a run would cost, without doing it: exact requests and prompt tokens, a range for the rest.

Writes nothing: no journal, no database, no engine. Prompt tokens are exact where the base traces
exist (a file of traces, or a run that already answered its questions).
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from tracelab.config import RunConfig
from tracelab.errors import WarehouseError
from tracelab.grading import Grader
from tracelab.home import Home
from tracelab.methods.resample import Planned
from tracelab.output import print_table
from tracelab.runtime.journal import read_observations
from tracelab.runtime.study import Study
from tracelab.runtime.wiring import wire

SHORTEST, LONGEST = 0.5, 2.0
"""A rollout is taken to be between half and twice as long as what the trace wrote from there."""

_SLACK_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """Requests and tokens; `generated` is a range."""

    requests: int
    rollouts: int
    prompt_tokens: int
    generated: tuple[int, int]


def cost_of(studies: Sequence[Study], planned: Sequence[Planned], owed: dict[str, int]) -> Cost:
    """Cost of what is still owed.

    Args:
        studies: Traces.
        planned: Their items.
        owed: Replicates still missing, by item key.
    """
    length = {s.trace.trace_id: len(s.tokens.response_ids) for s in studies}
    requests = rollouts = prompt = low = high = 0
    for p in {p.item.key: p for p in planned}.values():
        n = owed[p.item.key]
        if not n:
            continue
        limit = p.item.sampling.max_tokens if p.item.sampling else 0
        rest = length[p.trace_id] - p.start_token
        requests, rollouts = requests + 1, rollouts + n
        prompt += len(p.item.prefix_ids) * n
        low += n * min(int(rest * SHORTEST), limit)
        high += n * min(int(rest * LONGEST) + _SLACK_TOKENS, limit)
    return Cost(requests, rollouts, prompt, (low, high))


def estimate_costs(config: RunConfig, home: Home) -> None:
    """Print what `tracelab run` would ask of the engine."""
    with contextlib.closing(Grader(config.grading)) as grader:
        _estimate_costs(config, home, grader)


def _estimate_costs(config: RunConfig, home: Home, grader: Grader) -> None:
    from pipelines import thought_anchors as recipe

    wired = wire(config)
    inputs = recipe.gather(config)
    done: dict[str, set[int]] = {}
    texts = {}
    root = config.runtime.journal or str(home.runs)
    for part in read_observations(root, config.name):
        for o in part:
            done.setdefault(o.key, set()).add(o.replicate)
            texts[o.key] = o if o.key not in texts or o.error is None else texts[o.key]
    rows: list[tuple[str, int, int, int, str]] = []
    if inputs.problems:
        items = recipe.base_items(config, inputs, wired.spec.model, wired.tokenizer)
        owed = [i for i in items.values() if i.key not in done]
        tokens = sum(len(i.prefix_ids) for i in owed)
        limit = config.sampling.max_tokens * len(owed)
        rows.append(("base traces", len(owed), len(owed), tokens, f"at most {limit:,}"))
        recipe.adopt_answers(config, wired.spec.model, items, texts, inputs, grader)
    studies = recipe.prepare(config, inputs, wired.tokenizer, grader, wired.spec.context_length)
    planned = recipe.plan(config, studies, wired.spec.model)
    owed_by_key = {
        p.item.key: len(set(p.item.replicate_range) - done.get(p.item.key, set())) for p in planned
    }
    cost = cost_of(studies, planned, owed_by_key)
    low, high = cost.generated
    rows.append(
        ("rollouts", cost.requests, cost.rollouts, cost.prompt_tokens, f"{low:,} to {high:,}")
    )
    print_table(("stage", "requests", "rollouts", "prompt tokens", "generated tokens"), rows)
    missing = len(inputs.problems) - len(studies)
    if missing > 0:
        print(
            f"{missing} base traces do not exist yet; their sentences, and so their rollouts "
            f"({config.resample.rollouts} at each boundary), are known only once they are sampled."
        )
    for reject in inputs.rejects:
        print(f"rejected: {reject.file}:{reject.line}: {reject.reason}")
    if rate := _rate(config, home):
        print(f"time: {low / rate:,.0f} to {high / rate:,.0f} s at {rate:,.0f} tok/s, the rate of "
              "earlier runs here, plus the engine's start")  # fmt: skip
    else:
        print("time: unknown until this model has run here once")
    print("nothing was written")


def _rate(config: RunConfig, home: Home) -> float | None:
    """Generated tokens a second of earlier runs of this model and engine, engine start excluded."""
    from tracelab.warehouse import open_reader

    if not home.database.exists():
        return None
    with contextlib.suppress(WarehouseError), open_reader(home.database, wait_s=1.0) as con:
        row = con.execute(
            "SELECT sum(generated_tokens) / nullif(sum(seconds - engine_seconds), 0) "
            "FROM sessions JOIN runs USING (run_id) WHERE engine = $engine AND model = $model",
            {"engine": config.engine.kind, "model": config.model},
        ).fetchone()
        return None if row is None or row[0] is None else float(row[0])
    return None
