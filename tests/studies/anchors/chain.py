"""A small Markov text process with every probability known; what rollouts of it look like.

Slot k writes one of three sentences of two tokens. Sentences 0 and 1 say the same thing (they lead
to the same state and are similar), sentence 2 says another. Sentences of an even slot differ in
their first token, those of an odd slot in their last, so that a diverge token that is off by one
in either direction puts some rollouts in the wrong unit.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from tracelab.core.item import Outcome, Rollout
from tracelab.core.unit import Unit

SLOTS, STATES, ANSWERS = 6, 3, 3
SAYS = np.array([0, 0, 1])  # what each sentence says


@dataclass(frozen=True)
class Chain:
    """p [slot, state, sentence]; to [slot, says, state] -> state; answer [state, answer]."""

    p: np.ndarray
    to: np.ndarray
    answer: np.ndarray
    trace: np.ndarray
    """The sentence the base trace has in each slot."""

    @classmethod
    def random(cls, rng: np.random.Generator) -> Chain:
        p = rng.dirichlet(np.full(3, 1.5), (SLOTS, STATES))
        to = rng.integers(0, STATES, (SLOTS, 2, STATES))
        answer = rng.dirichlet(np.full(ANSWERS, 0.6), STATES)
        draft = cls(p, to, answer, np.zeros(SLOTS, dtype=int))
        return dataclasses.replace(draft, trace=draft.write(rng, 0, 0, 1)[0][0])

    def state(self, boundary: int) -> int:
        """State of the base trace at a boundary."""
        s = 0
        for k in range(boundary):
            s = self.to[k, SAYS[self.trace[k]], s]
        return int(s)

    def write(
        self, rng: np.random.Generator, boundary: int, state: int, n: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Sentences [n, SLOTS - boundary] and answers [n]."""
        s = np.full(n, state)
        wrote = np.zeros((n, SLOTS - boundary), dtype=int)
        for k in range(boundary, SLOTS):
            c = (rng.random(n)[:, None] > np.cumsum(self.p[k, s], 1)).sum(1).clip(0, 2)
            wrote[:, k - boundary] = c
            s = self.to[k, SAYS[c], s]
        a = (rng.random(n)[:, None] > np.cumsum(self.answer[s], 1)).sum(1).clip(0, ANSWERS - 1)
        return wrote, a

    @property
    def units(self) -> list[Unit]:
        return [
            Unit("sentence", k, 8 * k, 8 * k + 8, 2 * k, 2 * k + 2, f" says {self.trace[k]}.")
            for k in range(SLOTS)
        ]

    def rollouts(self, rng: np.random.Generator, n: int | list[int]) -> list[Rollout]:
        """`n` rollouts from every boundary, as the runtime would hand them to an estimator."""
        out = []
        for b, count in enumerate([n] * (SLOTS + 1) if isinstance(n, int) else n):
            wrote, answers = self.write(rng, b, self.state(b), count)
            for r in range(count):
                out.append(self._rollout(b, r, wrote[r], int(answers[r])))
        return out

    def _rollout(self, b: int, r: int, wrote: np.ndarray, answer: int) -> Rollout:
        off = np.flatnonzero(wrote != self.trace[b:])
        outcome = Outcome(str(answer), float(answer == 0), "graded")
        if not off.size:
            return Rollout(f"b{b}", r, b, 2 * b, 2 * SLOTS, outcome, 2 * wrote.size)
        k = int(off[0]) + b
        says = SAYS[wrote] == SAYS[self.trace[b:]]
        return Rollout(
            f"b{b}", r, b, 2 * b, 2 * k + k % 2, outcome, 2 * wrote.size,
            own_sentence=f" says {wrote[k - b]}.",
            similarity=0.9 if says[k - b] else 0.1,
            echoes=sum(1 << j for j in range(k + 1, SLOTS) if says[j - b]),
        )  # fmt: skip

    # Exact values.

    def ahead(self, slot: int, state: int) -> np.ndarray:
        """Answer distribution from a state at the start of a slot."""
        if slot == SLOTS:
            return self.answer[state]
        return sum(
            self.p[slot, state, c] * self.ahead(slot + 1, int(self.to[slot, SAYS[c], state]))
            for c in range(3)
        )

    def after(self, boundary: int) -> np.ndarray:
        """Answer distribution from a boundary of the trace."""
        return self.ahead(boundary, self.state(boundary))

    def keep(self, unit: int) -> float:
        """P(the model writes exactly the unit)."""
        return float(self.p[unit, self.state(unit), self.trace[unit]])

    def instead(self, unit: int, *, only_different: bool) -> np.ndarray | None:
        """Answer distribution given another sentence in place of a unit; None if impossible."""
        s, total, mass = self.state(unit), np.zeros(ANSWERS), 0.0
        for c in range(3):
            same = SAYS[c] == SAYS[self.trace[unit]]
            if c == self.trace[unit] or (only_different and same):
                continue
            w = self.p[unit, s, c]
            total += w * self.ahead(unit + 1, int(self.to[unit, SAYS[c], s]))
            mass += w
        return total / mass if mass > 0 else None

    def different(self, unit: int) -> float:
        """P(the model writes something that says something else)."""
        row = self.p[unit, self.state(unit)]
        return float(row[SAYS != SAYS[self.trace[unit]]].sum())

    def says_at(self, slot: int, states: np.ndarray, to: int) -> float:
        """P(slot `to` says what the trace says | distribution over states at `slot`)."""
        for k in range(slot, to):
            onward = np.zeros(STATES)
            for s in range(STATES):
                for c in range(3):
                    onward[self.to[k, SAYS[c], s]] += states[s] * self.p[k, s, c]
            states = onward
        return float(
            sum(
                states[s] * self.p[to, s, SAYS == SAYS[self.trace[to]]].sum() for s in range(STATES)
            )
        )

    def link(self, i: int, j: int) -> float:
        """Exact link i -> j."""
        s = self.state(i)
        kept = np.eye(STATES)[self.state(i + 1)]
        left = np.zeros(STATES)
        for c in range(3):
            if c != self.trace[i]:
                left[self.to[i, SAYS[c], s]] += self.p[i, s, c]
        return self.says_at(i + 1, kept, j) - self.says_at(i + 1, left / left.sum(), j)
