"""An engine of somebody else's is configured, built and asked like our own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import pytest

from tracelab.core.errors import ConfigError
from tracelab.core.item import Item, ModelRef, Observation, Sampling
from tracelab.engines.base import Counters, Engine, EngineSpec
from tracelab.engines.kind import EngineKind
from tracelab.engines.options import EngineConfig
from tracelab.engines.registry import ENGINES, build
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.run.pool import LocalPool


class EchoEngine:
    """Writes what it was told to."""

    capabilities = frozenset({"generate"})

    def __init__(self, spec: EngineSpec) -> None:
        self.spec, self.counters = spec, Counters()

    async def generate(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        text = str(self.spec.options["says"])
        yield [Observation(i.key, r, text=text) for i in items for r in i.replicate_range]

    def score(self, items: Sequence[Item]) -> AsyncGenerator[list[Observation], None]:
        raise NotImplementedError

    def halt(self) -> None:
        pass

    def close(self) -> None:
        pass


class Echo(EngineKind):
    """Says what its options say."""

    name = "echo"
    here = local_weights = False

    @classmethod
    def check(cls, config: EngineConfig) -> None:
        if "says" not in config.options:
            raise ConfigError("engine.options.says is missing")

    @classmethod
    def spec_of(cls, model: str, config: EngineConfig) -> EngineSpec:
        cls.check(config)
        ref = ModelRef(model, "1", "float64")
        return EngineSpec(cls.name, model, ref, 64, cls.options_of(config, False, 64))

    @classmethod
    def tokenizer(cls, spec: EngineSpec) -> ScriptTokenizer:
        return ScriptTokenizer(Script.planted())

    @classmethod
    def make(cls, spec: EngineSpec) -> Engine:
        return EchoEngine(spec)


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ENGINES, "_members", dict(ENGINES))
    monkeypatch.setattr(ENGINES, "_order", dict(ENGINES._order))
    ENGINES.register("echo")(Echo)


def config(**more: Any) -> Any:
    from tracelab.run.config import parse_config

    data = {"name": "t", "source": "x", "model": "m", "engine": {"kind": "echo", **more}}
    return parse_config(data, "t.toml")


def test_an_engine_of_ones_own(echo: None) -> None:
    from tracelab.run.wiring import wire

    wired = wire(config(options={"says": "hello"}))
    pool = wired.make_pool()
    assert isinstance(pool, LocalPool)  # it computes nothing here, so it needs no workers
    item = Item(wired.spec.model, (1, 2), Sampling(), replicates=3)
    pool.submit([item])
    assert [o.text for o in pool.ready(60)] == ["hello"] * 3
    pool.close()


def test_what_it_refuses_is_said(echo: None) -> None:
    from tracelab.run.wiring import wire

    with pytest.raises(ConfigError, match=r"engine\.options\.says is missing"):
        wire(config())
    with pytest.raises(ConfigError, match="\"eco\": there is no such engine; did you mean 'echo'"):
        config(kind="eco")


def test_a_package_that_is_missing_is_one_sentence(
    echo: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(spec: EngineSpec) -> Engine:
        raise ImportError("No module named 'echo_server'")

    monkeypatch.setattr(Echo, "make", make)
    spec = EngineSpec("echo", "m", ModelRef("m", "1", "float64"), 64)
    with pytest.raises(ConfigError, match=r"needs a package .* \(No module named 'echo_server'\)"):
        build(spec)


def test_every_engine_says_what_it_is() -> None:
    assert all((kind.__doc__ or "").strip() for kind in ENGINES.values())
    assert all(kind.name == name for name, kind in ENGINES.items())
