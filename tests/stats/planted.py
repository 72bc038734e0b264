"""The planted contexts of `tracelab bench cite`, which tests use too."""

from benchmarks.bench.planted import Planted

__all__ = ["Planted"]
