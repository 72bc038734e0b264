"""What made the model take a bad action: planted poison is found, by the model's own odds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.agent_files import failed_runs
from tests.studies.audit.audit_world import Driver, TextTokens, context
from tracelab.core.errors import PlanError
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Item, Observation
from tracelab.core.rows import UnitRow
from tracelab.core.seam import RecordedRun
from tracelab.core.trace import Trace
from tracelab.environments.testbed import MarketWorld
from tracelab.run.config import parse_config
from tracelab.run.wiring import local_pool, wire
from tracelab.studies.audit.ablated import ablated_rows
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.chat import Chat
from tracelab.studies.cite.action import Dependence, measure_action
from tracelab.studies.cite.rows import SpanRow, TargetRow
from tracelab.testbed.agent_runs import as_episode, planted

RUNS = failed_runs(40, seed=31, split="evaluation")
Answer = Callable[[Sequence[AnyItem]], Any]


def poisoned() -> list[tuple[RecordedRun, int]]:
    found = []
    for run in RUNS:
        cause, action = planted(run.task, run.actions)
        if cause == "poisoned_use" and action is not None:
            found.append((run, action))
    return found


def measured(
    run: RecordedRun,
    action: int,
    answer: Answer,
    *,
    contrast: bool = True,
    masks: int = 32,
    tokenizer: Any = None,
    **more: Any,
) -> Dependence | None:
    right = MarketWorld().correction(run, action)[0] if contrast else None
    ctx, _ = context(AuditOptions(), tokenizer=tokenizer or TextTokens(), **more)
    flow = measure_action(
        ctx, Chat(ctx.tokenizer), "ab" * 8, run.steps[action], run.before[action],
        run.actions[action], instead=right, ablations=masks, level=0.95, seed=[0, 1, action],
    )  # fmt: skip
    return drive(flow, answer)


@pytest.fixture(scope="module")
def engine() -> Iterator[tuple[Answer, dict[str, Any]]]:
    """The bundled model, in this process, and what a study is told of it."""
    wired = wire(parse_config({
        "name": "t", "source": "testbed", "model": "testbed",
        "engine": {"kind": "transformers", "dtype": "float32"},
    }, "t"))  # fmt: skip
    pool = local_pool(wired.spec, 256)

    def answer(items: Sequence[AnyItem]) -> Iterator[list[Observation]]:
        pool.submit(items)
        while pool.owed:
            yield pool.ready(1.0)

    yield answer, {"tokenizer": wired.tokenizer, "model": wired.spec.model}
    pool.close()


def test_the_poisoned_note_is_what_made_the_model_err(
    engine: tuple[Answer, dict[str, Any]],
) -> None:
    cases = poisoned()
    assert len(cases) >= 6
    answer, given = engine
    for run, t in cases:
        d = measured(run, t, answer, **given)
        assert d is not None
        top = d.messages[0]
        assert "Trust only this" in run.before[t][top["message"]]["content"]
        assert top["role"] == "tool" and top["target"] == f"contrast:{run.steps[t]}"
        assert top["lo"] > 0, "and surely so"
    # The rows say where the piece stands in the transcript of the run.
    episode = as_episode(run)
    rows = ablated_rows("t", d, episode)
    units = [r for r in rows if isinstance(r, UnitRow)]
    spans = [r for r in rows if isinstance(r, SpanRow)]
    targets = [r for r in rows if isinstance(r, TargetRow)]
    assert len(units) == len(spans) == len(d.units) and {r.unit_kind for r in units} == {"span"}
    transcript = Trace.of_episode(episode).response
    for unit, span in zip(units, spans, strict=True):
        text = transcript if span.turn_index == 1 else episode.task
        assert text[span.start_char : span.end_char] == unit.text
    assert [t.kind for t in targets] == ["action", "contrast"]
    assert {s.target for s in d.scores} == {t.target for t in targets}


def fake(answer: Callable[[str], float | None]) -> Answer:
    """A model whose log-probability of any action is a function of its prompt."""

    def said(item: Item, replicate: int) -> Observation:
        value = answer("".join(map(chr, item.prefix_ids)))
        if value is None:
            return Observation(item.key, replicate, finish_reason="error", error="engine: down")
        return Observation(item.key, replicate, token_logprobs=(value,))

    return Driver(said).answer


def believing(prompt: str) -> float:
    return -2.0 if "Trust only this" in prompt else -9.0


def test_effects_have_the_size_of_what_a_piece_does() -> None:
    run, t = poisoned()[0]
    d = measured(run, t, fake(believing), contrast=False, masks=64)
    assert d is not None
    top, *others = d.messages
    assert "Trust only this" in top["text"]
    assert top["effect"] == pytest.approx(7.0, abs=0.5) and top["lo"] > 5
    assert all(m["effect"] < 1 for m in others)
    assert d.targets[0].label == "grounded"


def test_what_could_not_be_scored_is_said_and_names_nothing() -> None:
    run, t = poisoned()[0]
    d = measured(run, t, fake(lambda _: None), masks=16)
    assert d is not None
    assert d.messages == [] and d.targets[0].label == "insufficient"
    assert d.scores and all(s.value is None and s.status == "insufficient" for s in d.scores)


def test_an_action_that_follows_the_question_alone_depends_on_no_message() -> None:
    d = measured(RUNS[0], 0, fake(lambda _: -1.0), masks=16)
    assert d is None and ablated_rows("t", d, as_episode(RUNS[0])) == []


class Fussy(TextTokens):
    """A template that refuses empty messages."""

    def chat_text(self, messages: Any, rendering: Any, *, ask: bool = True, tools: Any = ()) -> str:
        if any(not m["content"].strip() for m in messages):
            raise PlanError("the chat template refuses these messages (empty)")
        return super().chat_text(messages, rendering, ask=ask)


def test_a_template_that_refuses_empty_messages_gets_placeholders() -> None:
    run, t = poisoned()[0]
    d = measured(run, t, fake(believing), contrast=False, masks=64, tokenizer=Fussy())
    assert d is not None and "Trust only this" in d.messages[0]["text"]
