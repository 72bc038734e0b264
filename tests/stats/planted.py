"""The planted contexts of `tracelab bench cite`, which tests use too."""

from tracelab.bench.planted import Planted

__all__ = ["Planted"]
