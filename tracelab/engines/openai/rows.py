"""What a completions server says about the tokens of a prompt, row by row, and whether it counts.

Whatever does not is an `EndpointError` of the kinds of `tracelab.engines.openai.engine`.
"""

from __future__ import annotations

import math
from typing import Any

from tracelab.core.seam import EndpointError

_ABOVE = 1e-4
"""So much above 0 is rounding; it becomes 0."""
Row = tuple[int | None, Any]
"""The token that a row is about, if the server tells, and what it says."""


def listed(choice: dict[str, Any], size: int) -> list[Any]:
    """Rows of vLLM's `prompt_logprobs`: for each prompt token a dict by token id, or None."""
    rows = choice.get("prompt_logprobs")
    if not isinstance(rows, list):
        raise EndpointError(
            "missing", "the reply has no prompt_logprobs (see engine.server.scoring)"
        )
    if len(rows) != size:
        raise EndpointError("missing", f"{len(rows)} rows for {size} prompt tokens")
    return rows


def echoed(choice: dict[str, Any], size: int) -> list[Row]:
    """Rows of `echo`, with the token where it is written `token_id:7`."""
    found = part(choice, "logprobs")
    values, tokens = found.get("token_logprobs"), found.get("tokens")
    # Some servers write a token although none is asked for.
    if not isinstance(values, list) or len(values) not in (size, size + 1):
        raise EndpointError("missing", f"the reply does not echo {size} log-probabilities")
    named = tokens if isinstance(tokens, list) and len(tokens) == len(values) else [None] * size
    return [(_token_id(t), v) for t, v in zip(named[:size], values[:size], strict=True)]


def _token_id(token: Any) -> int | None:
    text = token.removeprefix("token_id:") if isinstance(token, str) else ""
    return int(text) if text != token and text.isdecimal() and len(text) < 12 else None


def part(choice: dict[str, Any], name: str) -> dict[str, Any]:
    """An object inside a choice."""
    found = choice.get(name)
    if not isinstance(found, dict):
        raise EndpointError("missing", f"the reply has no {name} (see engine.server.scoring)")
    return found


def checked(row: Any, token: int, at: int) -> float:
    """The log-probability of a token, or the reason why there is none."""
    if isinstance(row, dict):
        if str(token) not in row:
            raise EndpointError("wrong_token", f"row {at} is not about token {token}")
        entry = row[str(token)]
        row = (token, entry.get("logprob") if isinstance(entry, dict) else entry)
    if not isinstance(row, tuple) or row[1] is None:
        raise EndpointError("missing", f"no log-probability for token {at}")
    about, value = row
    if about is not None and about != token:
        raise EndpointError("wrong_token", f"row {at} is about token {about}, not {token}")
    if type(value) not in (int, float):
        raise EndpointError("malformed", f"the log-probability of token {at} is no number")
    if not math.isfinite(value):
        raise EndpointError("not_a_number", f"the log-probability of token {at} is {value}")
    if value > _ABOVE:
        raise EndpointError(
            "malformed", f"the log-probability of token {at} is {value:.3g}, above 0"
        )
    return min(float(value), 0.0)
