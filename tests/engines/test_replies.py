"""What comes back is held to what was asked: each wrong answer is a failure with a reason."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import invoke, rows, write_config, write_jsonl
from tracelab.core.item import Call, Item, ModelRef, Observation, Sampling
from tracelab.engines.replies import checked
from tracelab.engines.scripted import Script, ScriptedEngine
from tracelab.store.home import Home
from tracelab.store.journal import Peek

MODEL = ModelRef("m", "r", "float32")
SAMPLED = Item(MODEL, (1, 2), Sampling(max_tokens=3, logprobs=True), replicates=2)
SCORED = Item(MODEL, (1, 2), target_ids=(3, 4))
CALL = Call("chat", {"name": "x"})
ITEMS = {i.key: i for i in (SAMPLED, SCORED, CALL)}
ASKED = {i.key: set(i.replicate_range) for i in ITEMS.values()}
GOOD = Observation(SAMPLED.key, 0, (5, 6), "ab", token_logprobs=(-0.5, -1.0), prefix_tokens=2)
PROBE = Observation(SCORED.key, 0, token_logprobs=(-0.5, 0.0), prefix_tokens=2)
REPLY = Observation.of(CALL.key, 0, {"text": "yes"})


def of(*batch: Any) -> list[Observation]:
    return checked(batch, ITEMS, ASKED, 10)


def test_good_answers_pass_untouched() -> None:
    batch = [GOOD, replace(GOOD, replicate=1, token_logprobs=None), PROBE, REPLY]
    assert of(*batch) == batch
    lost = Observation(SCORED.key, 0, finish_reason="error", error="engine: lost")
    assert of(lost) == [lost]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (replace(GOOD, token_ids=(5, 10)), "token id 10 is not in the model's vocabulary of 10"),
        (replace(GOOD, token_ids=(5, 2**40)), "is not in the model's vocabulary"),
        (replace(GOOD, token_ids=(5, -1)), "is not in the model's vocabulary"),
        (replace(GOOD, token_ids=(5, True)), "is not in the model's vocabulary"),
        (replace(GOOD, token_ids=(5, "6")), "is not in the model's vocabulary"),
        (replace(GOOD, token_ids=(5,) * 4), "4 tokens, but 3 were the most"),
        (replace(GOOD, token_logprobs=(-0.5,)), "1 log-probabilities for 2 tokens"),
        (replace(GOOD, token_logprobs=(-0.5, math.nan)), "a log-probability is nan"),
        (replace(GOOD, token_logprobs=(-0.5, -math.inf)), "a log-probability is -inf"),
        (replace(GOOD, token_logprobs=(-0.5, 0.5)), "more than 0"),
        (replace(GOOD, token_logprobs=(-0.5, None)), "a log-probability is None"),
        (replace(GOOD, finish_reason="maybe"), "finish reason is 'maybe'"),
        (replace(GOOD, text=b"ab"), "its text is no text"),
        (replace(GOOD, prefix_tokens=2**31), "prefix_tokens is 2147483648"),
        (replace(GOOD, cached_tokens=-1), "cached_tokens is -1"),
        (replace(GOOD, token_ids=None), "TypeError"),
        (replace(GOOD, error="lost"), "neither an answer nor a failure"),
        (replace(PROBE, token_logprobs=None), "no log-probabilities"),
        (replace(PROBE, token_logprobs=(-0.5,)), "1 log-probabilities for 2 tokens"),
        (replace(REPLY, text="{"), "OutsideError: Not valid JSON"),
    ],
)
def test_a_wrong_answer_is_a_failure_with_a_reason(answer: Observation, why: str) -> None:
    [found] = of(answer)
    assert (found.key, found.replicate, found.finish_reason) == (
        answer.key, answer.replicate, "error",
    )  # fmt: skip
    assert found.error is not None and found.error.startswith("reply: ") and why in found.error
    assert (found.token_ids, found.text, found.token_logprobs) == ((), "", None)


def test_what_nobody_asked_for_is_dropped_and_what_came_twice_counts_once() -> None:
    assert of(replace(GOOD, key="x"), replace(GOOD, replicate=2), replace(GOOD, key=3)) == []
    assert of(GOOD, replace(GOOD, text="cd"), None) == [GOOD]


# -- whole runs with engines that misbehave -------------------------------------------------------

ANSWERS = ScriptedEngine.generate


def _spoil(kind: str, found: list[Observation]) -> list[Observation]:
    """Every third answer, spoilt."""
    out: list[Observation] = []
    for k, o in enumerate(found):
        if k % 3:
            out.append(o)
        elif kind == "nan":
            out.append(replace(o, token_logprobs=(math.nan,) * len(o.token_ids)))
        elif kind == "wrong ids":
            out.append(replace(o, token_ids=(2**33, *o.token_ids[1:])))
        elif kind == "too many":
            out.append(replace(o, token_ids=o.token_ids * 999))
        elif kind == "duplicates":
            out += [o, replace(o, text="other"), o]
        elif kind == "strangers":
            out += [o, replace(o, key="0" * 24), replace(o, replicate=999)]
    return out


@pytest.mark.parametrize(
    ("kind", "fails"),
    [
        ("nan", "a log-probability is nan"), ("wrong ids", "is not in the model's vocabulary"),
        ("too many", "were the most that was asked"), ("nothing", "none came"),
        ("duplicates", ""), ("strangers", ""),
    ],
)  # fmt: skip
def test_a_run_survives_an_engine_that_misbehaves(
    tmp_path: Path, script: Script, home: Path, monkeypatch: pytest.MonkeyPatch, kind: str,
    fails: str,
) -> None:  # fmt: skip
    source = write_jsonl(tmp_path / "t.jsonl", script, 1)
    config = write_config(
        tmp_path / "c.toml", source, anchors="rollouts = 6", runtime="batch_rollouts = 12"
    )

    async def generate(
        self: ScriptedEngine, items: Sequence[Item]
    ) -> AsyncGenerator[list[Observation], None]:
        async for found in ANSWERS(self, items):
            yield _spoil(kind, found)

    with monkeypatch.context() as patch:
        patch.setattr(ScriptedEngine, "generate", generate)
        result = invoke("run", config)
    assert result.exit_code == (3 if fails else 0), result.stderr
    said = " ".join(result.stderr.split())
    assert ("answers were dropped" in said) == (not fails)
    parts = Peek(str(Home.at().runs), "study").observations()
    seen = [(o.key, o.replicate) for part in parts for o in part]
    assert len(seen) == len(set(seen)), "nothing is doubled"
    bad = rows("select distinct error from rollouts where error is not null")
    assert all(r["error"].startswith("reply: ") and fails in r["error"] for r in bad)
    assert bool(bad) == bool(fails)
    assert invoke("check").exit_code == 0
    assert invoke("run", config, "--retry-errors").exit_code == 0
    assert rows("select error from rollouts where error is not null") == []
    assert rows("select status from runs") == [{"status": "complete"}]
    assert invoke("check").exit_code == 0
