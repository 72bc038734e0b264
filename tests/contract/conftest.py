"""The engines under contract. vLLM is started once, in a Ray actor, as in a real run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import pytest

from tests.completions_server import ChatServer, Server
from tests.conftest import SCRIPT_REF
from tests.judge_server import judge_server
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.core.seam import Tokenizer
from tracelab.core.trace import Trace, Turn
from tracelab.engines.base import EngineSpec
from tracelab.engines.scripted import Script, Scripted, ScriptTokenizer
from tracelab.run.config import parse_config
from tracelab.run.pool import EndpointPool, LocalPool, Pool
from tracelab.run.wiring import wire
from tracelab.testbed import problems

CONTEXT = 256


@dataclass
class Subject:
    """An engine behind its pool, with prompts it understands."""

    name: str
    pool: Pool
    tokenizer: Tokenizer
    model: ModelRef
    context: int
    prompts: list[tuple[int, ...]]
    capabilities: frozenset[str]

    def needs(self, capability: str) -> None:
        """Skip a test of what this engine does not claim."""
        if capability not in self.capabilities:
            pytest.skip(f"no {capability}")

    def cuts(self, ids: Sequence[int]) -> Iterable[int]:
        """Where a response may be cut: an endpoint makes its own tokens of what is given."""
        if "chat" not in self.capabilities:
            return range(1, len(ids), 7)
        return [k for k in range(1, len(ids)) if self.tokenizer.decode(ids[k:])[0] == " "][::5]

    def ask(self, *items: Item) -> list[Observation]:
        """Observations in item, then replicate order."""
        self.pool.submit(items)
        found = []
        while self.pool.owed:
            found += self.pool.ready(60)
        order = {item.key: k for k, item in reversed(list(enumerate(items)))}
        return sorted(found, key=lambda o: (order[o.key], o.replicate))

    def item(self, prefix: Sequence[int], *, n: int = 1, first: int = 0, **sampling) -> Item:
        plain = sampling.get("temperature", 1) == 1 and sampling.get("top_p", 1) == 1
        logprobs = "score" in self.capabilities and (plain or self.name != "openai")
        how = {"max_tokens": 120, "logprobs": logprobs, **sampling}
        return Item(
            self.model,
            tuple(prefix),
            Sampling(**how),
            first_replicate=first,
            replicates=n,
        )

    def probe(self, prefix: Sequence[int], target: Sequence[int]) -> Item:
        return Item(self.model, tuple(prefix), target_ids=tuple(target))


def model_subject(kind: str, **engine: object) -> Subject:
    config = parse_config(
        {
            "name": "contract",
            "source": "testbed",
            "model": "testbed",
            "engine": {"kind": kind, "dtype": "float32", "max_model_len": CONTEXT,
                       "kv_cache_gib": 1, "device": "cpu", **engine},
        },
        "contract",
    )  # fmt: skip
    wired = wire(config)
    if kind == "vllm":
        pool: Pool = wired.make_pool()
    else:
        pool = EndpointPool(wired.spec) if kind == "chat" else LocalPool(wired.spec)
    prompts = [prompt_of(wired.tokenizer, p.prompt) for p in problems(24, seed=11, missing=False,
                                                                      hinted=False)]  # fmt: skip
    return Subject(
        kind, pool, wired.tokenizer, wired.spec.model, CONTEXT, prompts, wired.capabilities
    )


def prompt_of(tokenizer: Tokenizer, asked: str) -> tuple[int, ...]:
    """The prompt of a response that reasons first."""
    turns = (Turn("user", asked), Turn("assistant", "Well.\n</think>\n\nSo."))
    return tokenizer.tokenize(Trace(turns, "t")).prompt_ids


@pytest.fixture(scope="session")
def vllm_subject() -> Iterator[Subject]:
    pytest.importorskip("vllm", reason="the vllm engine is not installed")
    subject = model_subject("vllm")
    yield subject
    subject.pool.close()


@pytest.fixture(scope="session")
def transformers_subject() -> Iterator[Subject]:
    subject = model_subject("transformers")
    yield subject
    subject.pool.close()


@pytest.fixture(scope="session")
def openai_subject(transformers_subject: Subject) -> Iterator[Subject]:
    """A client of a server over the transformers engine."""
    pool = transformers_subject.pool
    assert isinstance(pool, LocalPool)
    with judge_server(Server(pool._engine)) as server:
        subject = model_subject("openai", server={"endpoint": server.url})
        yield subject
        subject.pool.close()


@pytest.fixture(scope="session")
def chat_subject(transformers_subject: Subject) -> Iterator[Subject]:
    """A client of a chat endpoint over the transformers engine, which continues messages."""
    pool = transformers_subject.pool
    assert isinstance(pool, LocalPool)
    with judge_server(ChatServer(pool._engine, transformers_subject.tokenizer)) as server:
        subject = model_subject("chat", server={"endpoint": server.url, "continuation": "vllm"})
        yield subject
        subject.pool.close()


@pytest.fixture(scope="session")
def scripted_subject() -> Subject:
    tokenizer = ScriptTokenizer(Script.planted())
    spec = EngineSpec("scripted", "scripted", SCRIPT_REF, CONTEXT)
    prompts = [tokenizer.render([Turn("user", f"question {k}")], "chat") for k in range(24)]
    can = Scripted.capabilities
    return Subject("scripted", LocalPool(spec), tokenizer, SCRIPT_REF, CONTEXT, prompts, can)


@pytest.fixture(
    params=[
        "scripted",
        "transformers",
        "openai",
        "chat",
        pytest.param("vllm", marks=pytest.mark.engine),
    ],
    scope="session",
)
def engine(request: pytest.FixtureRequest) -> Subject:
    return request.getfixturevalue(f"{request.param}_subject")
