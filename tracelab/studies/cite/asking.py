"""Flows of one context that go in step. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from tracelab.core.flow import Ask, Flow
from tracelab.core.item import AnyItem, Observation

T = TypeVar("T")


def in_step(flows: Sequence[Flow[T]]) -> Flow[list[T]]:
    """Run flows, none of which forks, so that each makes its next request after all were answered.

    What they do between requests, they do in the order given: it does not depend on what arrives
    first.
    """
    results: dict[int, T] = {}
    while len(results) < len(flows):
        asks: list[Ask] = []
        for k, flow in enumerate(flows):
            if k in results:
                continue
            try:
                asked = next(flow)
            except StopIteration as end:
                results[k] = end.value
                continue
            assert isinstance(asked, Ask)
            asks.append(asked)
        if asks:
            yield _joined(asks)
    return [results[k] for k in range(len(flows))]


def _joined(asks: Sequence[Ask]) -> Ask:
    """One request that is several; each hears what it asked for."""
    items: dict[str, AnyItem] = {i.key: i for a in asks for i in a.items}
    wanted = [({i.key for i in a.items}, a.take) for a in asks]

    def take(batch: Sequence[Observation]) -> None:
        for keys, hear in wanted:
            if mine := [o for o in batch if o.key in keys]:
                hear(mine)

    return Ask(asks[0].stage, list(items.values()), take)
