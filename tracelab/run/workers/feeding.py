"""Which engine is given which items next. Pure: no Ray, no threads, no clock.

Items wait in the order in which they were asked for, and are handed out in batches:

* to the engine that holds fewest rollouts, so that none stands still while work waits;
* unless another has begun what the item continues: what shares a prefix goes to one engine, whose
  cache has it, as long as that one holds no more than two batches above the fewest;
* in smaller batches towards the end, and then only as many as are soon worked off: what an engine
  holds cannot be given to a faster one (guided self-scheduling, Polychronopoulos & Kuck 1987).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import cast

from tracelab.core.item import Item, Observation, parts

_BLOCK = 32
"""Tokens that prefixes are compared by."""
_REMEMBERED = 200_000
"""Blocks that are remembered, of all engines together."""
_BUSY = 4
"""What part of all that an engine may hold it can always be given, so that it has enough to do."""
_NEAR = 2
"""Batches by which one that has begun a prefix may hold more than the others and still get more."""
_LEAST = 8
"""What part of a batch the smallest one is."""


class Batch:
    """Items sent to an engine together, and what of them has not come back."""

    def __init__(self, items: Sequence[Item], *, deaths: int = 0, alone: bool = False) -> None:
        """Begin it.

        Args:
            items: Nothing of them has come back.
            deaths: Engine deaths they were in flight at.
            alone: Suspected of killing engines: runs with nothing beside it.
        """
        self.deaths, self.alone = deaths, alone
        self._items = {(i.key, i.first_replicate): i for i in items}
        self._left: dict[str, set[int]] = {}
        for item in items:
            self._left.setdefault(item.key, set()).update(item.replicate_range)
        self.owed = sum(map(len, self._left.values()))

    def settle(self, observations: Sequence[Observation]) -> None:
        """Owe them no more; what was not asked, or is no observation, is for who hears it."""
        for o in observations:
            key, replicate = getattr(o, "key", None), getattr(o, "replicate", None)
            if isinstance(key, str) and replicate in (left := self._left.get(key, set())):
                left.remove(replicate)
                self.owed -= 1

    def rest(self) -> list[Item]:
        """What has not come back, in the order in which it was asked."""
        return [
            cast(Item, part)
            for item in self._items.values()
            if (left := self._left[item.key].intersection(item.replicate_range))
            for part in parts(item, left)
        ]


class Waiting:
    """Items that wait, in order, and who is given them.

    Attributes:
        owed: Replicates that wait.
    """

    def __init__(self, batch_rollouts: int, in_flight: int = 1) -> None:
        """Begin with none.

        Args:
            batch_rollouts: Rollouts a batch, at most. An item that asks for more is split by
                replicate range, which changes no sample (see `Item.seed_of`).
            in_flight: Such batches that an engine may hold.
        """
        self.owed = 0
        self._size = batch_rollouts
        self._most = batch_rollouts * in_flight
        self._items: deque[Item] = deque()
        self._begun: OrderedDict[int, int] = OrderedDict()

    def add(self, items: Iterable[Item]) -> None:
        """Let items wait."""
        for item in items:
            self._items.append(item)
            self.owed += item.replicates

    def clear(self) -> None:
        """Forget them."""
        self._items.clear()
        self.owed = 0

    def take(self) -> Batch | None:
        """The next batch, where there is one engine."""
        held = self._next(self._size)
        return Batch(held) if held else None

    def give(self, held: Mapping[int, int]) -> tuple[int, Batch] | None:
        """The next batch and whose it is; None where nothing waits, or nobody may hold more.

        Args:
            held: Rollouts that each engine holds and has not answered, by a number of its
                own: a successor has another, for it has begun nothing.
        """
        if not self._items or not held:
            return None
        most, size = self._most, self._size
        if len(held) > 1:
            share = (self.owed + sum(held.values())) // (2 * len(held))
            most = min(most, max(self._size, self._most // _BUSY, share))
            size = min(size, max(1, size // _LEAST, self.owed // (4 * len(held))))
        open_to = {name: n for name, n in held.items() if n == 0 or n + size <= most}
        if not open_to:
            return None
        fewest = min(open_to, key=open_to.__getitem__)
        home = self._home(self._items[0])  # may be full, or dead
        near = {name for name, n in open_to.items() if n <= open_to[fewest] + _NEAR * self._size}
        name = home if home is not None and home in near else fewest
        taken = self._next(size, alike=len(held) > 1)
        if len(held) > 1:
            for item in taken:
                for block in _blocks(item.prefix_ids):
                    self._begun[block] = name
                    self._begun.move_to_end(block)
            while len(self._begun) > _REMEMBERED:
                self._begun.popitem(last=False)
        return name, Batch(taken)

    def _home(self, item: Item) -> int | None:
        """Who was given the longest part of its prefix before; None if nobody."""
        found: int | None = None
        for block in _blocks(item.prefix_ids):
            if (name := self._begun.get(block)) is None:
                return found
            found = name
        return found

    def _next(self, size: int, *, alike: bool = False) -> list[Item]:
        """About `size` rollouts; `alike`: of items that one engine has begun, or nobody."""
        taken: list[Item] = []
        count = 0
        home = self._home(self._items[0]) if alike and self._items else None
        while self._items:
            item = self._items[0]
            if taken and alike and self._home(item) != home:
                break
            part = item.at(item.first_replicate, size) if item.replicates > size else item
            if taken and count + part.replicates > size:
                break
            self._items.popleft()
            if part is not item:
                rest = item.replicates - size
                self._items.appendleft(item.at(item.first_replicate + size, rest))
            taken.append(part)
            count += part.replicates
        self.owed -= count
        return taken


def _blocks(tokens: Sequence[int]) -> Iterator[int]:
    """Of each whole block of a prefix, a hash of all up to its end."""
    last = 0
    for start in range(0, len(tokens) - _BLOCK + 1, _BLOCK):
        last = hash((last, tuple(tokens[start : start + _BLOCK])))
        yield last


def split(item: Item, size: int) -> Iterator[Item]:
    """Cut an item's replicate range into parts of at most `size`."""
    for at in range(0, item.replicates, size):
        yield item.at(item.first_replicate + at, min(size, item.replicates - at))
