"""Coroutines run to their end from anywhere, also from within a running loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tracelab.engines import aio


async def where(fail: bool = False) -> int:
    await asyncio.sleep(0)
    if fail:
        raise KeyError("mine")
    return threading.get_ident()


def test_without_a_loop_it_runs_here() -> None:
    assert aio.run(where()) == threading.get_ident()


def test_within_a_running_loop_it_runs_to_its_end() -> None:
    async def cell() -> int:  # what a notebook does
        return aio.run(where())

    assert asyncio.run(cell()) != threading.get_ident()


@pytest.mark.parametrize("inside", [False, True])
def test_errors_arrive(inside: bool) -> None:
    async def cell() -> int:
        return aio.run(where(fail=True))

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(cell()) if inside else aio.run(where(fail=True))
