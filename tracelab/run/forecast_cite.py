"""What a run of contexts would cost: the masks are known before anything is measured."""

from __future__ import annotations

from typing import cast

from pipelines import context_attribution as recipe
from tracelab.core.errors import ConfigError, PlanError
from tracelab.core.seam import Reject
from tracelab.run.config import RunConfig
from tracelab.run.forecast import Forecast, Stage
from tracelab.run.wiring import Wired
from tracelab.sources.context import ContextRecord
from tracelab.studies.cite import cites
from tracelab.studies.cite.attribution import recipe_of
from tracelab.studies.cite.begin import prompt_of
from tracelab.studies.cite.subject import ChatTokenizer
from tracelab.text.segment import segment


def forecast_contexts(config: RunConfig, wired: Wired) -> Forecast:
    """Count what a run that has not begun would ask of the engine.

    Prompt tokens of the ablations are an upper bound (deletion shortens prompts; masks of small
    contexts repeat); those that test the top spans, and those of methods that look before they ask
    again, depend on the scores and are not counted, nor are citations of responses that the model
    has yet to write.

    Raises:
        ConfigError: The engine cannot serve it.
        ImportFormatError: Nothing could be studied.
    """
    if not hasattr(wired.tokenizer, "chat_text"):
        raise ConfigError(
            "pipeline context_attribution needs engine.kind vllm, transformers or openai"
        )
    tokenizer = cast(ChatTokenizer, wired.tokenizer)
    records, rejects = recipe.gather(config)
    c = config.context
    found = Forecast(config.name, c.ablations, rejects=rejects)
    silent = tokens = probes = probe_tokens = asked = asked_tokens = kept = kept_tokens = 0
    how = recipe_of(config, wired.spec.context_length)
    for r in records:
        try:
            size = len(prompt_of(r, tokenizer, how))
        except PlanError as e:
            rejects.append(Reject(r.source, r.line, f"{r.name}: {e}", ""))
            continue
        n = len(r.context.sources)
        answered = r.response is not None or r.acts is not None
        silent += not answered
        tokens += 0 if answered else size
        masks = min(c.ablations + c.held_out, 2 ** min(n, 30)) + 2
        masks += (n if "leave-one-out" in c.methods else 0) + bool(c.prune)
        kept, kept_tokens = kept + 1, kept_tokens + size
        probes += masks
        probe_tokens += masks * size
        if cites.METHOD in c.methods and answered:
            questions = _statements(r, c.segmenter)
            asked += questions
            asked_tokens += questions * _question_tokens(r, tokenizer)
    longest = config.sampling.max_tokens
    found.stages = [
        Stage("responses", silent, silent, tokens, silent, silent * longest),
        Stage("ablations", probes, probes, probe_tokens, 0, 0),
    ]
    if c.prune:
        stage = "answers from pruned contexts"
        found.stages.append(Stage(stage, kept, kept, kept_tokens, kept, kept * longest))
    if cites.METHOD in c.methods:
        found.stages.append(Stage("citations", asked, asked, asked_tokens, asked, asked * longest))
    return found


def _statements(record: ContextRecord, segmenter: str) -> int:
    """Targets of a record whose response is known."""
    sentences = len(segment(record.response or "", segmenter)) or 1
    return sum(sentences if t.kind == "sentence" else 1 for t in record.targets)


def _question_tokens(record: ContextRecord, tokenizer: ChatTokenizer) -> int:
    """Tokens of a question about one of them, without the statement itself."""
    said = record.response or ""
    asked = cites.question([s.text for s in record.context.sources], said, "")
    return len(tokenizer.encode_text(asked))
