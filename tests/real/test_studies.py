"""Studies on a real model: what they find where it is plain, and what becomes of its replies.

It is small, so what it writes is often useless. That is what is tested: no reply is taken for what
it is not, and each that cannot be used says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.real.work import RealWorker, passages
from tests.contract.conftest import Subject
from tests.helpers import invoke, rows
from tests.studies.audit.audit_world import Driver, context
from tracelab.core.episode import Episode, Step
from tracelab.core.finding import Findings
from tracelab.core.flow import drive
from tracelab.core.item import AnyItem, Call, Observation, Sampling
from tracelab.core.trace import Trace
from tracelab.engines.chat.client import Budget
from tracelab.environments.replay import ReplayEnvironment
from tracelab.run.answering import LocalChat
from tracelab.run.config import parse_config
from tracelab.run.execute import run_config
from tracelab.sources import read
from tracelab.store.home import Home
from tracelab.studies.audit.case import AgentRun
from tracelab.studies.audit.opinions.judges import JudgeOptions, judged
from tracelab.studies.audit.options import AuditOptions
from tracelab.studies.audit.study import Audit
from tracelab.studies.cite.study import Cite

pytestmark = pytest.mark.real

Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def cited(real_dir: Path) -> Iterable[tuple[Findings, int]]:
    """The first passage of the figures, explained from 16 of its 32 masks."""
    worker = RealWorker(
        "transformers", str(real_dir), max_tokens=40, ablations=16, methods=["llm-cites"]
    )
    passage = passages()[0]
    cases, reasons = worker.cases([passage.trace()])
    assert not reasons
    yield worker.drive(Cite().run(cases, worker.ctx)), passage.support
    worker.close()


def test_the_sentence_that_states_the_fact_ranks_first(cited: tuple[Findings, int]) -> None:
    found, support = cited
    effects = {s.unit_index: s for s in found.scores if s.metric == "effect"}
    assert len(effects) == 5 and {s.status for s in effects.values()} == {"ok"}
    best = effects.pop(support)
    assert best.lo is not None and best.lo > 1  # nats
    for other in effects.values():
        assert other.hi is not None and other.hi < best.lo


def test_a_citation_of_the_model_is_usable_or_says_why(
    cited: tuple[Findings, int], record_property: Record
) -> None:
    found, _ = cited
    scores = [s for s in found.scores if s.method == "llm-cites"]
    assert len(scores) == 5
    usable = scores[0].status == "ok"
    record_property("llm-cites: well-formed replies", usable)
    if usable:
        assert {s.value for s in scores} <= {0.0, 1.0}
    else:
        assert {(s.value, s.status) for s in scores} == {(None, "failed")}
        assert scores[0].extra["reason"].startswith(("the reply ", "truncated: "))


def test_a_judge_that_is_the_model_is_understood_or_says_why(
    real: Subject, record_property: Record
) -> None:
    steps = (
        Step(0, "user", agent="user", content="Buy two teas."),
        Step(1, "llm", agent="buyer", content="I will buy three coffees."),
        Step(2, "llm", agent="checker", content="All is well."),
    )
    episode = Episode("e", steps, "x", task="Buy two teas.")
    chat = LocalChat(real.tokenizer, real.model, real.context, Budget())
    options = JudgeOptions(
        ["local"], lambda text: len(real.tokenizer.encode_text(text)), real.context,
        reply_tokens=48, show_reference=False, seed=1,
    )  # fmt: skip

    def answer(items: Iterable[AnyItem]) -> Iterable[list[Observation]]:
        for item in items:
            if isinstance(item, Call):
                yield [drive(chat(item), answer)]
            else:
                yield real.ask(item)

    said = drive(judged(episode, "all-at-once", options), answer)
    record_property("judge: status", said.status)
    if said.status == "ok":
        assert said.step in (0, 1, 2)
    else:
        assert said.step is None and (said.error or said.parse_failures)


def test_anchors_of_a_word_problem_from_a_file_to_sql(
    real_dir: Path, home: Path, tmp_path: Path
) -> None:
    record = {
        "id": "boxes",
        "prompt": "Tom has 3 boxes with 4 apples each. How many apples does he have? "
        "End with the answer as \\boxed{number}.",
        "response": "There are 3 boxes of 4 apples. The answer is \\boxed{12}.",
        "reference": "12",
    }
    source = tmp_path / "problems.jsonl"
    source.write_text(json.dumps(record) + "\n")
    config = parse_config(
        {
            "name": "boxes", "study": "anchors", "source": str(source), "model": str(real_dir),
            "engine": {"kind": "transformers", "dtype": "float32", "device": "cpu",
                       "max_model_len": 256},
            "sampling": {"max_tokens": 24},
            "anchors": {"allocation": "uniform", "rollouts": 2, "methods": ["resample"],
                        "similarity": "lexical"},
        },
        "t",
    )  # fmt: skip
    summary = run_config(config, Home.at(None), quiet=True, in_process=True)
    assert (summary.traces, summary.rejected, summary.failed) == (1, 0, 0)
    units = rows("SELECT text FROM units ORDER BY unit_index")
    assert len(units) == 2
    (counted,) = rows(
        "SELECT count(*) AS n, count(error) AS errors, count(DISTINCT start_boundary) AS places, "
        "max(n_tokens) AS longest FROM rollouts"
    )
    assert counted["errors"] == 0 and counted["longest"] <= 24
    # What is certain to be written needs no rollouts of its own.
    assert counted["n"] >= 2 and counted["places"] >= 1
    scores = rows(
        "SELECT count(*) AS n, count(DISTINCT unit_index) AS units FROM scores "
        "WHERE metric = 'delta_value'"
    )
    assert scores[0]["units"] == len(units)
    checked = invoke("check")
    assert checked.exit_code == 0, checked.stdout


def test_an_agent_with_text_tools_is_re_executed(real: Subject, tmp_path: Path) -> None:
    """Its calls are text; what the model writes instead is asked of the recorded results."""
    call = '<tool_call>{"name": "price", "arguments": {"item": "tea"}}</tool_call>'
    log = tmp_path / "runs.jsonl"
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "What does tea cost? Call the tool price with an item, as "
                                    f"{call}, then say the price."},
        {"role": "assistant", "content": call},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Tea costs 5."},
    ]  # fmt: skip
    record = {"id": "r", "messages": messages, "success": False, "reference": "4"}
    log.write_text(json.dumps(record) + "\n")
    [trace] = read(log)
    assert isinstance(trace, Trace)
    options = AuditOptions(
        environment="replay", initial=1, rollouts=1, controls=1, correct=False, evidence=False
    )

    def make() -> ReplayEnvironment:
        return ReplayEnvironment(lambda said, right: float(right in said))

    ctx, told = context(
        options, make, tokenizer=real.tokenizer, model=real.model, context_length=real.context,
        sampling=Sampling(max_tokens=24),
    )  # fmt: skip
    driver = Driver(pool=real.pool)
    found = driver.drive(Audit().run([AgentRun.of(trace)], ctx))
    assert found.verdicts and np.isfinite(found.attempted) and found.attempted > 0
    reruns = [r for r in [*found.rows, *told.rows] if getattr(r, "table", "") == "reruns"]
    assert reruns
    for r in reruns:  # it ended, with a score or without one that anybody knows, or says why not
        assert r.error is None or ": " in r.error
