"""What a failure audit would cost: exact for scoring, and for re-executions as long as the record.

How many turns a re-execution takes, and how many are needed until a step is sure, is only known
afterwards: the range goes from the first round, half as long, to the most, twice as long.
"""

from __future__ import annotations

from typing import cast

from tracelab.core.trace import Trace
from tracelab.environments import make_environment
from tracelab.run.config import RunConfig
from tracelab.run.forecast import LONGEST, SHORTEST, Forecast, Stage
from tracelab.run.wiring import Wired
from tracelab.studies.anchors.certify import exact_under
from tracelab.studies.anchors.inputs import sampling_of
from tracelab.studies.audit.inputs import Source, read_runs, subjects_of
from tracelab.studies.audit.rerun import Chat, ChatTemplate, Rerunner


def forecast_audit(config: RunConfig, wired: Wired) -> Forecast:
    """Count what `tracelab run` would ask of the engine.

    Raises:
        ConfigError: The run would be refused.
        ImportFormatError: Nothing can be read.
    """
    c, found = config.audit, Forecast(config.name, config.audit.rollouts)
    if config.source == "testbed":
        found.base_traces_missing = config.source_options.problems
        return found
    found.rejects = []
    episodes = {Trace.of_episode(e).trace_id: e for e in read_runs(config, found.rejects)}
    source = Source(list(episodes.items()), found.rejects)
    if c.environment is None:
        return found
    make = make_environment(c.environment, lambda text, reference: None)
    sampling = sampling_of(config)
    rerunner = Rerunner(
        make, Chat(cast(ChatTemplate, wired.tokenizer)), wired.spec.model, sampling, config.seed,
        lambda name, items, on: None, context_length=wired.spec.context_length,
    )  # fmt: skip
    scored = prompt = turns = read = wrote = steps = 0
    for s in subjects_of(config, source, rerunner):
        before = [
            len(rerunner.chat.prompt(b, s.run.offered_at(t))) for t, b in enumerate(s.run.before)
        ]
        action = [
            len(rerunner.chat.written(b, a))
            for b, a in zip(s.run.before, s.run.actions, strict=True)
        ]
        steps += s.size
        scored += s.size
        prompt += sum(before) + sum(action)
        # Action k is written again by the re-executions from every action up to it.
        turns += sum(range(1, s.size + 1))
        read += sum((k + 1) * n for k, n in enumerate(before))
        wrote += sum((k + 1) * n for k, n in enumerate(action))
    if exact_under(sampling):
        found.stages.append(Stage("scoring steps", scored, 0, prompt, 0, 0))
    found.stages.append(
        Stage(
            "re-executions", c.initial * turns, c.initial * steps, c.initial * read,
            int(c.initial * wrote * SHORTEST), int(c.rollouts * wrote * LONGEST),
        )
    )  # fmt: skip
    return found
