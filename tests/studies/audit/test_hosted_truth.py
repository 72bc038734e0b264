"""Behind a chat API an audit finds what it finds with the model itself, on the same runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent_files import failed_runs
from tests.completions_server import ChatServer
from tests.helpers import invoke, rows
from tests.hosted import write_text_logs
from tests.judge_server import judge_server
from tracelab.core.seam import RecordedRun
from tracelab.engines.registry import build
from tracelab.engines.transformers.engine import TransformersEngine
from tracelab.run.config import parse_config
from tracelab.run.wiring import wire
from tracelab.testbed.agent_runs import planted


@contextmanager
def endpoint() -> Iterator[str]:
    """The bundled model behind a chat API of this process."""
    engine = {"kind": "transformers", "dtype": "float32", "device": "cpu", "max_model_len": 512}
    config = {"name": "t", "source": "x", "model": "testbed", "engine": engine}
    wired = wire(parse_config(config, "t"))
    model = build(wired.spec)
    assert isinstance(model, TransformersEngine)
    with judge_server(ChatServer(model, wired.tokenizer)) as server:
        yield server.url
    model.close()


def found(name: str, runs: list[RecordedRun]) -> tuple[int, int]:
    """Planted steps that an audit names, and those that its 90 % sets hold."""
    sql = (
        "select t.name, v.decisive_step step, v.credible_set::integer[] held from verdicts v "
        f"join traces t using (run_id, trace_id) where v.run_id = '{name}'"
    )
    at = {r.name: r.steps[planted(r.task, r.actions)[1] or 0] + 1 for r in runs}
    verdicts = rows(sql)
    assert len(verdicts) == len(runs)
    return (
        sum(v["step"] == at[v["name"]] for v in verdicts),
        sum(at[v["name"]] in (v["held"] or ()) for v in verdicts),
    )


@pytest.mark.engine
@pytest.mark.long
def test_planted_steps_are_found_as_with_the_local_engine(tmp_path: Path, home: Path) -> None:
    failed = [r for r in failed_runs(6) if planted(r.task, r.actions)[1] is not None][:3]
    logs = write_text_logs(tmp_path / "logs.jsonl", failed)
    base = ("audit", logs, "--environment", "tests.agent_files:Market", "--max-tokens", "64",
            "--off-policy", "meant", "--no-evidence", "--no-correct", "--rollouts", "8",
            "--controls", "1", "--quiet")  # fmt: skip
    local = ("--engine", "transformers", "--dtype", "float32", "--model", "testbed")
    assert invoke(*base, *local, "--name", "local").exit_code == 0
    with endpoint() as url:
        hosted = ("--engine", "chat", "--endpoint", url, "--model", "testbed")
        assert invoke(*base, *hosted, "--name", "hosted").exit_code == 0
    (top, held), (local_top, local_held) = found("hosted", failed), found("local", failed)
    assert top >= local_top - 1 and held >= local_held - 1, (top, held)
    assert held >= 2
