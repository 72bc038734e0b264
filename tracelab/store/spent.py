"""What observations cost: requests, tokens, seconds. Pure.

An observation carries its own costs, so what a run cost is a sum over its journal. Re-executions,
and judges that are the run's own model, cost what the samples in them do, which are observations
too; only what is asked of an endpoint is counted by the answer that came of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, TypeAlias

from tracelab.core.item import Observation
from tracelab.core.outside import OutsideError, decode

Source: TypeAlias = Literal["engine", "judges", "grading"]
SOURCES: tuple[Source, ...] = ("engine", "judges", "grading")
"""Who is paid: engines; endpoints that give opinions; endpoints that grade."""

GRADES = "grade/"
"""How keys of what grading kept begin."""
_MARK = '"requests":'


@dataclass(slots=True)
class Spent:
    """What was spent on one of `SOURCES`. `seconds` are those of endpoints, one after the other."""

    requests: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    seconds: float = 0.0

    def add(self, other: Spent, sign: int = 1) -> None:
        """Add what another one says, or take it away."""
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + sign * getattr(other, f.name))


def _nothing() -> dict[Source, Spent]:
    return {source: Spent() for source in SOURCES}


@dataclass(slots=True)
class Total:
    """What some observations cost together.

    Attributes:
        observations: How many they are.
        errors: How many of them are failures.
        by: What was spent, by who is paid.
    """

    observations: int = 0
    errors: int = 0
    by: dict[Source, Spent] = field(default_factory=_nothing)

    @classmethod
    def of(cls, observations: Iterable[Observation]) -> Total:
        """Count observations, each as often as it comes."""
        total = cls()
        for o in observations:
            total.observations += 1
            total.errors += o.error is not None
            source, spent = _cost(o)
            total.by[source].add(spent)
        return total

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Total:
        """Read it back."""
        by = {s: Spent(**data["by"].get(s, {})) for s in SOURCES}
        return cls(data["observations"], data["errors"], by)

    def to_json(self) -> dict[str, Any]:
        """As JSON; `from_json` inverts it."""
        return asdict(self)

    def add(self, other: Total, sign: int = 1) -> None:
        """Add what another one says, or take it away."""
        self.observations += sign * other.observations
        self.errors += sign * other.errors
        for source, spent in self.by.items():
            spent.add(other.by[source], sign)

    @property
    def all(self) -> Spent:
        """Of every source."""
        return self._of(*SOURCES)

    @property
    def endpoints(self) -> Spent:
        """Of chat endpoints."""
        return self._of("judges", "grading")

    def _of(self, *sources: Source) -> Spent:
        found = Spent()
        for source in sources:
            found.add(self.by[source])
        return found


def _cost(o: Observation) -> tuple[Source, Spent]:
    if o.endpoint:
        return "engine", _said(o.endpoint)
    source: Source = "grading" if o.key.startswith(GRADES) else "judges"
    if o.error is not None and o.prefix_tokens:  # what does not fit is not sent
        return "engine", Spent(int(not o.error.startswith("overlong")))
    if o.prefix_tokens or o.token_ids or o.token_logprobs:
        scored = 0 if o.token_ids else len(o.token_logprobs or ())
        return "engine", Spent(1, o.prefix_tokens + scored, len(o.token_ids))
    return source, _said(o.text)


def _said(text: str) -> Spent:
    """What an answer says that it cost (`tracelab.core.seam.at_endpoint`)."""
    if _MARK not in text:
        return Spent()
    try:
        said = decode(text, repair=True)
    except OutsideError:
        return Spent()
    if not isinstance(said, dict) or not isinstance(said.get("requests"), int):
        return Spent()
    return Spent(
        said["requests"], said.get("prompt_tokens") or 0, said.get("output_tokens") or 0,
        float(said.get("seconds") or 0.0),
    )  # fmt: skip
