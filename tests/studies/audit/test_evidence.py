"""What made the model take a bad action: planted poison is found, by the model's own odds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.agent_files import failed_runs
from tests.studies.audit.audit_world import MODEL, TextTokens
from tracelab.core.errors import PlanError
from tracelab.core.item import Observation, Sampling
from tracelab.core.seam import RecordedRun
from tracelab.core.trace import Trace
from tracelab.environments.testbed import MarketWorld, as_episode, planted
from tracelab.run.config import parse_config
from tracelab.run.pool import LocalPool
from tracelab.run.wiring import wire
from tracelab.studies.audit.ablated import AblatedContext
from tracelab.studies.audit.evidence import Question, dependences
from tracelab.studies.audit.rerun import Chat, Rerunner

RUNS = failed_runs(40, seed=31, split="evaluation")


def poisoned() -> list[tuple[RecordedRun, int]]:
    found = []
    for run in RUNS:
        cause, action = planted(run.task, run.actions)
        if cause == "poisoned_use" and action is not None:
            found.append((run, action))
    return found


def question(run: RecordedRun, action: int, *, contrast: bool = True) -> Question:
    right = MarketWorld().correction(run, action)[0] if contrast else None
    return Question(run.name, run, action, right)


@pytest.fixture(scope="module")
def rerunner() -> Iterator[Rerunner]:
    """The bundled model, in this process."""
    wired = wire(parse_config({
        "name": "t", "source": "testbed", "model": "testbed",
        "engine": {"kind": "transformers", "dtype": "float32"},
    }, "t"))  # fmt: skip
    pool = LocalPool(wired.spec)

    def observe(name: str, items: Any, on: Callable[[list[Observation]], None]) -> None:
        for batch in pool.run(items):
            on(batch)

    chat: Any = wired.tokenizer
    yield Rerunner(MarketWorld, Chat(chat), wired.spec.model, Sampling(max_tokens=64), 0, observe)
    pool.close()


def test_the_poisoned_note_is_what_made_the_model_err(rerunner: Rerunner) -> None:
    cases = poisoned()
    assert len(cases) >= 6
    found = dependences(rerunner, [question(run, t) for run, t in cases], masks=32, level=0.95)
    named = []
    for (run, t), d in zip(cases, found, strict=True):
        top = d.messages[0]
        named.append("Trust only this" in run.before[t][top["message"]]["content"])
        assert top["role"] == "tool" and top["target"] == f"contrast:{run.steps[t]}"
        assert top["lo"] > 0, "and surely so"
    assert all(named)
    # The rows say where the piece stands in the transcript of the run.
    (run, _), d = cases[0], found[0]
    episode = as_episode(run)
    rows = AblatedContext.made("t", d, episode)
    assert rows is not None and AblatedContext.of(rows.to_json()) == rows
    transcript = Trace.of_episode(episode).response
    for unit, span in zip(rows.units, rows.spans, strict=True):
        text = transcript if span.turn_index == 1 else episode.task
        assert text[span.start_char : span.end_char] == unit.text
    assert [t.kind for t in rows.targets] == ["action", "contrast"]
    assert {s.target for s in d.scores} == {t.target for t in rows.targets}


def fake(answer: Callable[[str], float | None]) -> Rerunner:
    """A model whose log-probability of any action is a function of its prompt."""

    def observe(name: str, items: Any, on: Callable[[list[Observation]], None]) -> None:
        for item in items:
            value = answer("".join(map(chr, item.prefix_ids)))
            on([Observation(item.key, 0, token_logprobs=None if value is None else (value,),
                            error="engine: down" if value is None else None)])  # fmt: skip

    return Rerunner(MarketWorld, Chat(TextTokens()), MODEL, Sampling(), 0, observe)


def test_effects_have_the_size_of_what_a_piece_does() -> None:
    run, t = poisoned()[0]
    asked = question(run, t, contrast=False)
    [d] = dependences(
        fake(lambda prompt: -9.0 if "Trust only this" not in prompt else -2.0), [asked],
        masks=64, level=0.95,
    )  # fmt: skip
    top, *others = d.messages
    assert "Trust only this" in top["text"]
    assert top["effect"] == pytest.approx(7.0, abs=0.5) and top["lo"] > 5
    assert all(m["effect"] < 1 for m in others)
    assert d.targets[0].label == "grounded"


def test_what_could_not_be_scored_is_said_and_names_nothing() -> None:
    run, t = poisoned()[0]
    [d] = dependences(fake(lambda _: None), [question(run, t)], masks=16, level=0.95)
    assert d.messages == [] and d.targets[0].label == "insufficient"
    assert d.scores and all(s.value is None and s.status == "insufficient" for s in d.scores)


def test_an_action_that_follows_the_question_alone_depends_on_no_message() -> None:
    run = RUNS[0]
    [d] = dependences(fake(lambda _: -1.0), [question(run, 0)], masks=16, level=0.95)
    assert d.messages == [] and d.targets == []


class Fussy(TextTokens):
    """A template that refuses empty messages."""

    def chat_text(self, messages: Any, rendering: Any, *, ask: bool = True, tools: Any = ()) -> str:
        if any(not m["content"].strip() for m in messages):
            raise PlanError("the chat template refuses these messages (empty)")
        return super().chat_text(messages, rendering, ask=ask)


def test_a_template_that_refuses_empty_messages_gets_placeholders() -> None:
    run, t = poisoned()[0]
    rerunner = fake(lambda prompt: -9.0 if "Trust only this" not in prompt else -2.0)
    rerunner.chat = Chat(Fussy())
    [d] = dependences(rerunner, [question(run, t, contrast=False)], masks=64, level=0.95)
    assert "Trust only this" in d.messages[0]["text"]
