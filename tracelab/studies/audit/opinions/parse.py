"""What a judge's reply says, read strictly: one answer, exact integers, failures by kind.

    empty            nothing was written
    truncated        cut off before an answer
    no_step          no `Step:` line and no JSON answer       no_agent         likewise `Agent:`
    not_an_integer   the step is not one ASCII integer        unknown_agent    nobody of that name
    ambiguous_step   several different steps                  ambiguous_agent  several agents
    out_of_range     there is no such step
    no_verdict, ambiguous_verdict, no_half, ambiguous_half    of yes/no and first/second questions

Pure. Hostile replies: only the end of a long one is read, and every pattern takes linear time.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tracelab.core.episode import fold_role
from tracelab.core.outside import INNER_DEPTH, OutsideError, decode
from tracelab.text.tags import parted

_TAIL_CHARS = 20_000
_MARKS = "[ \\t>*_#`|-]*"
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}")


class Answer(NamedTuple):
    """Agent and step of a reply, either None with a failure, and the reason."""

    step: int | None
    agent: str | None
    reason: str | None
    failures: Counter[str]


def exact_step(value: object, steps: int) -> tuple[int | None, str | None]:
    """A predicted step as an integer, or why it is none.

    Only an integer, or text that is exactly one ASCII integer without leading zeros, counts: `1 2
    3`, `Step 3`, `3.0`, `٣` and `true` do not. So a prediction equals a label exactly when
    their canonical texts are equal.

    Args:
        value: A prediction, as given.
        steps: How many steps there are.

    Returns:
        (step, None), or (None, kind of failure).
    """
    if isinstance(value, str) and _INTEGER.fullmatch(text := value.strip(" \t\r\n")):
        value = int(text)
    if value is None or value == "":
        return None, "no_step"
    if isinstance(value, bool) or not isinstance(value, int):
        return None, "not_an_integer"
    return (value, None) if 0 <= value < steps else (None, "out_of_range")


def parse_answer(text: str, steps: int, agents: Sequence[str], *, truncated: bool) -> Answer:
    """Read `Agent:`, `Step:` and `Reason:` lines, or one JSON object with these keys.

    Args:
        text: The reply.
        steps: How many steps there are.
        agents: Who took part.
        truncated: The reply was cut off.
    """
    failures: Counter[str] = Counter()
    text = parted(text)[1][-_TAIL_CHARS:]
    if not text.strip():
        failures["truncated" if truncated else "empty"] += 1
        return Answer(None, None, None, failures)
    found = _json_answer(text)
    if found is None:
        found = {
            "step": _lines(text, r"(?:mistake[ _])?step(?:[ _](?:number|index))?"),
            "agent": _lines(text, r"(?:mistake[ _])?agent(?:[ _]name)?"),
            "reason": _lines(text, r"reason(?:[ _]for[ _]mistake)?"),
        }
    if truncated and not found["step"] and not found["agent"]:
        failures["truncated"] += 1
        return Answer(None, None, None, failures)
    step = _step(found["step"], steps, failures)
    agent = _agent(found["agent"], agents, failures)
    reasons = [r for r in found["reason"] if isinstance(r, str)]
    return Answer(step, agent, reasons[-1] if reasons else None, failures)


def parse_choice(
    text: str, label: str, choices: tuple[str, str]
) -> tuple[str | None, str | None, str | None]:
    """Read `Label: choice`; return (choice, failure, reason)."""
    text = parted(text)[1][-_TAIL_CHARS:]
    said = {s.lower().rstrip(".") for s in _lines(text, label)}
    reasons = _lines(text, "reason")
    reason = reasons[-1] if reasons else None
    if len(said) == 1 and (only := said.pop()) in choices:
        return only, None, reason
    return None, f"ambiguous_{label}" if len(said) > 1 else f"no_{label}", reason


def _lines(text: str, label: str) -> list[Any]:
    """What stands after `Label:` at the start of lines, without marks of emphasis."""
    pattern = re.compile(rf"^{_MARKS}{label}{_MARKS}:(.*)$", re.IGNORECASE | re.MULTILINE)
    return [v for m in pattern.finditer(text) if (v := m[1].strip(" \t\r*_`\"'"))]


def _json_answer(text: str) -> dict[str, list[Any]] | None:
    fenced = text.split("```")[-2:-1] if text.count("```") > 1 else []
    for piece in [text.strip(), *(f.strip().removeprefix("json").strip() for f in fenced)]:
        if not piece.startswith("{"):
            continue
        try:
            data = decode(piece, depth=INNER_DEPTH)
        except OutsideError:
            continue
        keys = {str(k).lower().replace(" ", "_"): v for k, v in data.items()}
        names = {
            "step": ("step", "step_number", "mistake_step"),
            "agent": ("agent", "agent_name", "mistake_agent"),
            "reason": ("reason", "mistake_reason"),
        }
        return {k: [keys[n] for n in ns if keys.get(n) is not None] for k, ns in names.items()}
    return None


def _step(values: list[Any], steps: int, failures: Counter[str]) -> int | None:
    if not values:
        failures["no_step"] += 1
        return None
    plain = [re.sub(r"(?i)\Astep +", "", v) if isinstance(v, str) else v for v in values]
    found = {exact_step(v.rstrip(".") if isinstance(v, str) else v, steps) for v in plain}
    if len(found) > 1:
        failures["ambiguous_step"] += 1
        return None
    step, failure = found.pop()
    if failure:
        failures[failure] += 1
    return step


def _agent(values: list[Any], agents: Sequence[str], failures: Counter[str]) -> str | None:
    folded = {fold_role(str(v).strip(" \t*_`\"'.")) for v in values}
    if not folded:
        failures["no_agent"] += 1
        return None
    if len(folded) > 1:
        failures["ambiguous_agent"] += 1
        return None
    (name,) = folded
    if name not in agents:
        failures["unknown_agent"] += 1
        return None
    return name
