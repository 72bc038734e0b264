"""Benchmarks that ship with tracelab: `tracelab bench NAME`. Each prints its table."""
