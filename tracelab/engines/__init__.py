"""Engines turn work items into observations; all pass the contract in tests/contract."""

from tracelab.engines.base import Counters, Engine, EngineSpec, Tokenizer, build

__all__ = ["Counters", "Engine", "EngineSpec", "Tokenizer", "build"]
