"""What runs cost, held to their journals: prices, invocations that were killed, the check.

What is in a journal carries its own costs (`tracelab.store.spent`); `sessions` says the same by
invocation, in the journal and in the warehouse.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from duckdb import DuckDBPyConnection

from tracelab.store.home import Home
from tracelab.store.journal import Journal, Peek
from tracelab.store.query import SAMPLE_ROWS, CheckResult
from tracelab.store.spent import SOURCES, Source, Total

Prices: TypeAlias = Mapping[Source, tuple[float, float]]
"""Of a million prompt tokens and of a million tokens written, by who is paid."""

_COUNTED = (
    "observations", "errors", "requests", "prompt_tokens", "generated_tokens",
    "endpoint_requests", "endpoint_prompt_tokens", "endpoint_generated_tokens",
)  # fmt: skip


def money(total: Total, prices: Prices) -> float | None:
    """What tokens cost; None where nothing that was used has a price."""
    used = [s for s in SOURCES if any(prices[s]) and total.by[s].requests]
    if not used:
        return None
    return sum(
        (total.by[s].prompt_tokens * prices[s][0] + total.by[s].generated_tokens * prices[s][1])
        / 1e6
        for s in used
    )


def counted(total: Total) -> dict[str, Any]:
    """A total under the names of the columns of `sessions`."""
    every, ends = total.all, total.endpoints
    return {
        "observations": total.observations, "errors": total.errors,
        "requests": every.requests, "prompt_tokens": every.prompt_tokens,
        "generated_tokens": every.generated_tokens, "endpoint_requests": ends.requests,
        "endpoint_prompt_tokens": ends.prompt_tokens,
        "endpoint_generated_tokens": ends.generated_tokens,
        "endpoint_seconds": round(ends.seconds, 3),
    }  # fmt: skip


def settled(journal: Journal, prices: Prices) -> None:
    """Complete the sessions of a journal with what killed invocations did not write down.

    Their sessions lack at most the part of the journal that they wrote last, so what the journal
    has and no session counts is the last of theirs.
    """
    found = journal.sessions()
    sessions = [s for _, s in found]
    left = [(name, s) for name, s in found if not s.get("closed", True)]
    if not left or not all(isinstance(s.get(c), int) for s in sessions for c in _COUNTED):
        return  # nothing is missing, or sessions of before this was kept
    if (total := journal.total()) is None:
        return
    _, last = max(left, key=lambda x: str(x[1].get("started_at")))
    for column, n in counted(total).items():
        last[column] += max(0, n - sum(s[column] for s in sessions))
    if (spent := money(total, prices)) is not None:
        last["money"] = max(0.0, spent - sum(s["money"] or 0.0 for s in sessions if s is not last))
    for name, session in left:
        session["closed"] = True
        journal.write_json(name, session)


def check_costs(con: DuckDBPyConnection, home: Home) -> CheckResult:
    """Whether the sessions of every finished run add up to what its journal holds."""
    rows = con.execute(
        "SELECT r.run_id, any_value(r.config ->> '$.runtime.journal'), "
        + ", ".join(f"sum(s.{name})::BIGINT" for name in _COUNTED)
        + " FROM runs AS r INNER JOIN sessions AS s USING (run_id) "
        "WHERE r.status IN ('complete', 'complete_with_errors') GROUP BY r.run_id "
        "HAVING count(*) = count(s.requests) ORDER BY r.run_id"
    ).fetchall()
    wrong: list[dict[str, Any]] = []
    for run_id, root, *sums in rows:
        journal = Peek(root or str(home.runs), run_id)
        if not journal.has_results() or (total := journal.total()) is None:
            continue
        held = counted(total)
        wrong += [
            {"run_id": run_id, "column": name, "sessions": n, "journal": held[name]}
            for name, n in zip(_COUNTED, sums, strict=True)
            if n != held[name]
        ]
    return CheckResult(
        "sessions_add_up",
        "The costs of all sessions of a finished run add up to what its journal holds.",
        len(wrong),
        tuple(wrong[:SAMPLE_ROWS]),
    )
