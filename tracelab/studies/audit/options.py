"""The options of failure audits."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import ClassVar

from pydantic import Field

from tracelab.core.options import KeyVariable, PlainUrl, Section

MIN_RERUNS = 4
"""Fewest graded re-executions before a number is reported about a boundary or a step."""


class JudgingConfig(Section):
    """Who gives the opinions of judges; the run's own model where nothing is said."""

    endpoint: PlainUrl | None = None
    """An OpenAI-compatible endpoint, up to and without `/chat/completions`."""
    model: str | None = None
    """The endpoint's name for its model."""
    api_key_env: KeyVariable | None = None
    """Environment variable that holds the endpoint's key."""
    context: int = Field(default=32_768, ge=256)
    """Context length of the endpoint's model, tokens."""
    reply_tokens: int = Field(default=1024, ge=16)
    """Room for a reply."""
    show_reference: bool = False
    """Show the correct answer, where it is known."""
    concurrency: int = Field(default=8, ge=1)
    """Requests in flight."""
    timeout_s: float = Field(default=120.0, gt=0)
    """For a whole reply, seconds."""
    attempts: int = Field(default=5, ge=1)
    """Requests sent at most for one reply: after 429, 5xx, a timeout or a lost connection."""
    max_requests: int | None = Field(default=None, ge=0)
    """Cap on requests of one session."""
    max_tokens: int | None = Field(default=None, ge=0)
    """Cap on prompt and reply tokens of one session."""
    max_cost: float | None = Field(default=None, ge=0)
    """Cap in the unit of the prices."""
    input_price: float = Field(default=0.0, ge=0)
    """Price of a million prompt tokens."""
    output_price: float = Field(default=0.0, ge=0)
    """Price of a million reply tokens."""


def _opinions() -> Iterable[str]:
    from tracelab.studies.audit.opinions.floors import FLOORS
    from tracelab.studies.audit.opinions.judges import PROTOCOLS

    return [*FLOORS, *PROTOCOLS]


class AuditOptions(Section):
    """Failure audits: what failed runs are re-executed in, and how much.

    `may_change` names the keys that change no number of what was executed, so that a run goes on
    under other ones: opinions, and who gives them, are kept by what was asked.
    """

    may_change: ClassVar[tuple[str, ...]] = (
        "opinions",
        "budget_tokens",
        "judge",
        "workers",
        "max_live",
        "timeout_s",
    )

    names: ClassVar[Mapping[str, Callable[[], Iterable[str]]]] = {"opinions": _opinions}

    environment: str | None = None
    """`testbed`, `replay` (recorded tool results), `module:Class`, `command: PROGRAM ARGUMENTS`;
    without one nothing can be executed, and `opinions` are all there is."""
    side_effects: bool = False
    """Acknowledges that the environment's steps change something, and are executed many times."""
    opinions: list[str] = []
    """Judges (`a2p`, ...) and floors (`error-rule`, ...) that guess without executing anything."""
    assume_failed: bool = False
    """Study runs as failures whose log does not say how they ended; otherwise they are refused."""
    controls: int = Field(default=4, ge=1)
    """How often the recorded actions are executed again, unchanged, before anything else."""
    initial: int = Field(default=4, ge=1)
    """Re-executions from before every action in the first round, and what each later one adds."""
    rollouts: int = Field(default=16, ge=1)
    """Most re-executions from before one action; twice as many where one step dominates, to tell
    it from its neighbours."""
    budget_tokens: int | None = Field(default=None, ge=1)
    """Tokens that re-executions may generate, shared equally among the failed runs; what is left
    of a share is planned by the recorded lengths, so the last round may end a little above it."""
    delta: float = Field(default=0.15, gt=0, lt=1)
    """A step decides a failure only if it lowers the chance of success by more than this."""
    confidence: float = Field(default=0.9, gt=0.5, lt=1)
    """Posterior of one step above which the failure is `localized`."""
    credible: float = Field(default=0.9, gt=0, lt=1)
    """Posterior that the credible set of steps holds."""
    level: float = Field(default=0.95, gt=0, lt=1)
    """Nominal coverage of the intervals of scores."""
    correct: bool = True
    """Try corrections: what the model did better in a re-execution, or the environment offers."""
    corrections: int = Field(default=3, ge=1)
    """Most corrections tried a run."""
    confirm: int = Field(default=8, ge=1)
    """Fresh re-executions of each correction."""
    theta: float = Field(default=0.5, gt=0, le=1)
    """Chance of success that a correction must restore."""
    evidence: bool = True
    """Score the suspicious action without some of the messages: what did it depend on?"""
    ablations: int = Field(default=32, ge=8)
    """How often, each time without others; half of the messages are left out."""
    max_turns: int = Field(default=100, ge=1)
    """Turns after which a re-execution is scored as it stands."""
    max_steps: int = Field(default=400, ge=1)
    """A run with more model steps is not executed, and gets a `rejects` row."""
    workers: int = Field(default=1, ge=1)
    """Threads in which environments step; more help those that wait for something."""
    max_live: int = Field(default=2048, ge=1)
    """Environments held at once; each may be a process."""
    timeout_s: float = Field(default=60.0, gt=0)
    """Deadline of one answer of a command, seconds."""
    judge: JudgingConfig = JudgingConfig()
