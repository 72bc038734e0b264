"""Rollouts of scripted traces with their closed-form truth, without an engine between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.helpers import scripted_trace, sentences
from tracelab.core.item import Outcome, Rollout, diverge_token
from tracelab.core.trace import TokenizedTrace
from tracelab.core.unit import Unit
from tracelab.engines.scripted import Script, ScriptTokenizer
from tracelab.studies.anchors.grouping import boundary_tokens

_EOS = 256


@dataclass
class Case:
    """One trace: its rollouts, and what they estimate."""

    tokens: TokenizedTrace
    units: list[Unit]
    rollouts: list[Rollout]
    truth: np.ndarray
    keep: np.ndarray


def prob(script: Script, tokens: tuple[int, ...], start: int, end: int) -> float:
    p = 1.0
    for t in range(start, end):
        p *= script.next_token(tokens[:t]).get(tokens[t], 0.0)
    return p


def case(script: Script, seed: int, n: int, *, good: str = "7", shift: int = 0, rng=None) -> Case:
    """Sample `n` rollouts a boundary; `shift` misplaces the diverge token, to break things."""
    rng = rng or np.random.default_rng([seed, n])
    tokens, units = sentences(ScriptTokenizer(script), scripted_trace(script, seed, good))
    response = tokens.response_ids
    cuts = boundary_tokens(units)
    rollouts = []
    for b, start in enumerate(cuts):
        for k in range(n):
            ids = list(response[:start])
            while True:
                dist = script.next_token(ids)
                pick = int(rng.choice(list(dist), p=list(dist.values())))
                if pick == _EOS:
                    break
                ids.append(pick)
            answer = max(script.answers(ids).items(), key=lambda x: x[1])[0]
            leaves = diverge_token(start, ids[start:], response)
            rollouts.append(
                Rollout(
                    f"i{b}", k, b, start, min(leaves + shift, cuts[-1]),
                    Outcome(answer, float(answer == good), "graded"), len(ids) - start,
                )
            )  # fmt: skip
    truth = np.array([script.answers(response[:t]).get(good, 0.0) for t in cuts])
    keep = np.array([prob(script, response, u.token_start, u.token_end) for u in units])
    return Case(tokens, units, rollouts, truth, keep)
