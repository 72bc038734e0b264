"""The list of benchmarks: every file of `benchmarks/commands` registers one.

    @BENCHMARKS.register("overhead")
    @click.option("--repeats", type=int, default=3)
    def overhead(repeats: int) -> Figures:
        ...

The function's docstring is the help; its first line is what the list says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import click

from tracelab.core.registry import Registry


def lines(found: dict[str, Any]) -> None:
    """Print one figure a line."""
    for name, value in found.items():
        click.echo(f"{name:28} {json.dumps(value)}")


@dataclass(frozen=True, slots=True)
class Figures:
    """What a benchmark found.

    Attributes:
        found: What `--json` prints, JSON values only.
        show: Prints the same for people.
        exit_code: Of the process: 1 where a bar was missed, 3 where something is left to do.
    """

    found: dict[str, Any]
    show: Callable[[dict[str, Any]], None] = lines
    exit_code: int = 0


Benchmark: TypeAlias = Callable[..., Figures]

BENCHMARKS: Registry[Benchmark] = Registry(
    "benchmark", package="benchmarks.commands", group="tracelab.benchmarks"
)
