"""The planted contexts of `python -m benchmarks cite`, which tests use too."""

from benchmarks.cite.planted import Planted

__all__ = ["Planted"]
