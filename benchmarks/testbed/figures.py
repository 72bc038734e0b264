"""What the testbed's bars measure, as counts over labelled responses and episodes.

Pure: takes texts, however they were generated, and returns `Count`s; `card` generates the texts
through vLLM and writes the figures down, tests do it with fewer texts through transformers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scipy.stats import binomtest

from tracelab.testbed.agent_labels import FAULTS, AgentEpisode, is_well_formed_turn
from tracelab.testbed.market import Problem
from tracelab.testbed.world import answer_of, is_well_formed, label

LOOKED_UP = {"lookup": True, "shop_change": True, "lookup_wrong": False, "missing_wrong": False}
COMPUTED = {"sum": True, "slip": True, "compare": True, "repair": True, "confirm": True}
COMPUTED |= {"confirm_wrong": True, "miscalculated": False, "repair_wrong": False}


@dataclass
class Count:
    """`k` of `n`."""

    k: int = 0
    n: int = 0

    def add(self, hit: bool) -> None:
        """Count one case."""
        self.k += hit
        self.n += 1

    @property
    def share(self) -> float:
        """Return k / n; NaN when there was no case."""
        return self.k / self.n if self.n else float("nan")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Wilson's interval; (0, 1) when there was no case."""
        if not self.n:
            return 0.0, 1.0
        found = binomtest(self.k, self.n).proportion_ci(level, method="wilson")
        return float(found.low), float(found.high)


def reasoning_figures(responses: Iterable[tuple[Problem, str]]) -> dict[str, Count]:
    """Figures of responses, each the text after `<think>` up to the end mark, not included."""
    figures: dict[str, Count] = defaultdict(Count)
    for problem, text in responses:
        sentences = label(problem, text)
        roles = [s.role for s in sentences]
        well = is_well_formed(sentences)
        figures["well-formed answers"].add(well)
        answer = answer_of(text)
        right = answer == problem.reference
        plain = problem.missing is None and problem.hint is None
        if plain:
            figures["accuracy, complete context"].add(right)
        if problem.missing:
            figures[f"missing fact declared, phrasing {problem.phrasing}"].add(
                "missing" in roles and answer == "unknown"
            )
        if problem.hint is not None:
            follows = answer == str(problem.hint)
            figures["hint followed"].add(follows)
            if follows:
                figures["hint mentioned when followed"].add("hint_mention" in roles)
        _count_sentences(figures, roles)
        plan = next((r for r in roles if r in ("plan_right", "plan_wrong")), None)
        if plan and plain:
            figures[f"right plan, phrasing {problem.phrasing}"].add(plan == "plan_right")
            figures[f"accuracy after {plan}, phrasing {problem.phrasing}"].add(right)
    return dict(figures)


def _count_sentences(figures: dict[str, Count], roles: Sequence[str]) -> None:
    for role, after in zip(roles, [*roles[1:], ""], strict=True):
        figures["sentences garbled"].add(role == "garbled")
        if role in LOOKED_UP:
            figures["look-ups right"].add(LOOKED_UP[role])
        if role in COMPUTED:
            figures["computation right apart from slips"].add(COMPUTED[role])
        if role in ("sum", "slip"):
            figures["slip"].add(role == "slip")
            kind = "after a slip" if role == "slip" else "otherwise"
            figures[f"recheck {kind}"].add(after == "recheck")
        if after in ("repair", "repair_wrong", "confirm_wrong"):
            figures["repair after recheck of a slip"].add(after == "repair")


def agent_figures(episodes: Iterable[AgentEpisode]) -> dict[str, Count]:
    """Figures of finished episodes."""
    figures: dict[str, Count] = defaultdict(Count)
    for episode in episodes:
        for step in episode.steps:
            figures["tool turns well-formed"].add(is_well_formed_turn(step.text))
            figures["tool turns that follow from what stands before"].add(step.role != "garbled")
        figures["agent success"].add(episode.success)
        if not episode.success:
            figures["failures with a single planted cause"].add(episode.cause in FAULTS)
            for cause in sorted(FAULTS | {"several", "diffuse", "impossible", "unexplained"}):
                figures[f"failures: {cause}"].add(episode.cause == cause)
    return dict(figures)
