"""Coroutines from code that is not asynchronous, and many of them side by side.

`run` and `OwnLoop` run them to their end wherever they are called from; `SideBySide` begins many
at once and gives their results as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
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
    if not _in_a_loop():
        return asyncio.run(work)
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, work).result()


class OwnLoop:
    """An event loop that stands still between calls: what a call left unfinished goes on later."""

    def __init__(self) -> None:
        """Make it; nothing runs."""
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run until `work` is done, and whatever was begun before along with it; see `run`."""
        if not _in_a_loop():
            return self._loop.run_until_complete(work)
        with ThreadPoolExecutor(max_workers=1) as pool:
            return pool.submit(self._loop.run_until_complete, work).result()

    def close(self) -> None:
        """Cancel what is unfinished. Idempotent."""
        if not self._loop.is_closed():
            self.run(_cancel_others())
            self._loop.close()


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _cancel_others() -> None:
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()


class SideBySide:
    """Requests that are in flight together."""

    def __init__(self) -> None:
        """None yet."""
        self._begun: dict[asyncio.Task[Any], None] = {}  # in the order in which they were begun

    def __len__(self) -> int:
        return len(self._begun)

    async def run(
        self, works: Iterable[Callable[[], Awaitable[T]]], most: int | None = None
    ) -> AsyncGenerator[T, None]:
        """Run all of `works`; their results, in the order in which they end.

        Args:
            works: Each makes what is awaited.
            most: At most so many at a time, the first ones first; None begins all at once.

        Raises:
            Exception: What the first that fails raises; the others are cancelled.
        """
        gate = None if most is None else asyncio.Semaphore(most)

        async def one(work: Callable[[], Awaitable[T]]) -> T:
            if gate is None:
                return await work()
            async with gate:
                return await work()

        left = [asyncio.create_task(one(work)) for work in works]
        self._begun.update(dict.fromkeys(left))
        try:
            waiting = set(left)
            while waiting:
                ended, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    self._begun.pop(task, None)
                for task in ended:
                    if not task.cancelled():
                        yield task.result()
        finally:
            for task in left:
                task.cancel()
                self._begun.pop(task, None)

    def keep(self, most: int) -> None:
        """Cancel all but the `most` that were begun first; the others give no result."""
        for task in list(self._begun)[max(most, 0) :]:
            task.cancel()
