"""A model that answers by a rule we know: by what a prompt still holds, by known chances."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from tests.studies.cite.context import Found, World, notes, world
from tracelab.core.item import AnyItem, Item, Observation
from tracelab.core.trace import Trace

FACTS = ("Kale costs 4.", "Item Fig takes 7.", "Shop Oak adds 2.", "Plum costs 5.", "Ivy adds 1.")
Rule = Callable[[np.ndarray], float]
"""Probability of the right answer by which facts are kept, bool [facts]."""


def needs(*facts: int, without: float = 0.0, given: float = 1.0) -> Rule:
    """Right with probability `given` where all of some facts are there, else `without`."""
    return lambda kept: given if kept[list(facts)].all() else without


def exact(rule: Rule) -> np.ndarray:
    """Average effect of each fact [5]: over all masks, in closed form."""
    n = len(FACTS)
    masks = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(bool)
    y = np.array([rule(m) for m in masks])
    return np.array([y[kept].mean() - y[~kept].mean() for kept in masks.T])


def answers(w: World, rule: Rule, say: Callable[[bool], str] = lambda right: boxed(right)) -> World:
    """A world whose model follows the rule."""

    def said(item: AnyItem, o: Observation) -> Observation:
        assert isinstance(item, Item) and item.sampling is not None, "nothing is scored"
        kept = facts_in(w, item.prefix_ids)
        right = np.random.default_rng(item.seed_of(o.replicate)).random() < rule(kept)
        return Observation(o.key, o.replicate, (5, 6), say(bool(right)), "stop")

    w.change = said
    w.real = False
    return w


def facts_in(w: World, prompt: Sequence[int]) -> np.ndarray:
    text = w.speaks.decode(prompt)
    return np.array([re.search(re.escape(f), text) is not None for f in FACTS])


def boxed(right: bool) -> str:
    return f"So it is.\n</think>\n\nThe bill is \\boxed{{{13 if right else 5}}}."


def asked(**options: object) -> World:
    """Sampled answers about the five facts; all 32 masks unless fewer are asked for."""
    chosen = {"outcome": "answer", "ablations": 32, "held_out": 0, "top_k": [1], **options}
    return world(context_length=1024, **chosen)


def question(target: object = None, **more: object) -> Trace:
    return notes(target, context=" " + " ".join(FACTS), **more)


def effects(found: Found, target: str = "response") -> tuple[np.ndarray, ...]:
    """Values and ends [facts]."""
    scores = found.effects(target)
    return tuple(np.array([getattr(s, k) for s in scores], float) for k in ("value", "lo", "hi"))
