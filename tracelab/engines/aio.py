"""Run a coroutine to its end from code that is not asynchronous, wherever it is called from."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run`, also where an event loop is running already, as in every notebook cell.

    A running loop cannot be entered a second time, so the work gets a loop in a thread of its own,
    and the caller waits for it.

    Args:
        work: What to run.

    Returns:
        What it returns; what it raises is raised here.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()
