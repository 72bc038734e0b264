"""The small real model, made once a machine, and one engine of it a session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.real_model import missing, real_model
from tests.contract.conftest import Subject
from tracelab.core.trace import Turn
from tracelab.run.config import parse_config
from tracelab.run.pool import LocalPool, Pool
from tracelab.run.wiring import wire

CONTEXT = 1024
QUESTIONS = (
    "What is the capital of France?",
    "Name three fruits.",
    "Tom has 3 boxes with 4 apples each. How many apples does he have?",
    "Write one sentence about the sea.",
)


@pytest.fixture(autouse=True, scope="session")
def one_processor() -> Iterator[None]:
    """Other workers run other tests: a second thread of a model then costs more than it gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.sched_getaffinity", lambda _: {0})
        yield


@pytest.fixture(scope="session")
def real_dir() -> Path:
    if why := missing():
        pytest.skip(why)
    return real_model()


def real_subject(kind: str, model: Path, **engine: object) -> Subject:
    config = parse_config(
        {
            "name": "real",
            "source": "testbed",
            "model": str(model),
            "engine": {"kind": kind, "dtype": "float32", "max_model_len": CONTEXT,
                       "kv_cache_gib": 1, "device": "cpu", **engine},
        },
        "real",
    )  # fmt: skip
    wired = wire(config)
    pool: Pool = wired.make_pool() if kind == "vllm" else LocalPool(wired.spec)
    prompts = [wired.tokenizer.render([Turn("user", q)], "chat") for q in QUESTIONS]
    return Subject(
        kind, pool, wired.tokenizer, wired.spec.model, CONTEXT, prompts, wired.capabilities
    )


@pytest.fixture(scope="session")
def real(real_dir: Path) -> Iterator[Subject]:
    """The transformers engine, in this process; float32, which holds the weights exactly."""
    subject = real_subject("transformers", real_dir)
    yield subject
    subject.pool.close()
