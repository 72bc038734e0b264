"""What was written instead of each sentence, and where it led, within a budget of characters.

A run holds far more text than a file that opens at once can. Counts and shares are always those of
all rollouts; what is dropped is text, evenly over sentences, and the page says how much.
"""

from __future__ import annotations

from typing import Any

from duckdb import DuckDBPyConnection

from tracelab.view.report.reasoning import ANSWER_CHARS, Data, Key, round_off

GROUP_CHARS = 400
"""Characters shown of an alternative sentence."""
ROLLOUT_CHARS = 2000
"""Characters shown of one rollout: the first three quarters of them, and the last quarter."""
MOST_GROUPS = 40
MOST_ROLLOUTS = 24
_OVERHEAD = 60  # characters of JSON around one entry

_GROUPED = """
CREATE OR REPLACE TEMP TABLE grouped AS
SELECT
    run_id, trace_id, unit_index, own_sentence,
    count(*) AS n,
    avg(reward) AS reward,
    any_value(similarity) AS similarity,
    row_number() OVER (PARTITION BY run_id, trace_id, unit_index
                       ORDER BY count(*) DESC, own_sentence) AS place
FROM alternatives JOIN selected USING (run_id, trace_id)
GROUP BY run_id, trace_id, unit_index, own_sentence
"""

_GROUPS = """
SELECT run_id, trace_id, unit_index, place, left(own_sentence, $chars), n, reward, similarity
FROM grouped WHERE place <= $most ORDER BY run_id, trace_id, unit_index, place
"""

_TOTALS = """
SELECT run_id, trace_id, unit_index, sum(n)::BIGINT, count(*) FROM grouped GROUP BY ALL ORDER BY ALL
"""

_ENDS = """
SELECT run_id, trace_id, unit_index, place, left(answer, $chars), count(*) AS k
FROM alternatives JOIN grouped USING (run_id, trace_id, unit_index)
WHERE place <= $most AND alternatives.own_sentence IS NOT DISTINCT FROM grouped.own_sentence
GROUP BY ALL ORDER BY run_id, trace_id, unit_index, place, k DESC, 5
"""

_PICKED = """
CREATE OR REPLACE TEMP TABLE picked AS
SELECT
    a.run_id, a.trace_id, a.unit_index, g.place, a.answer, a.reward, a.finish_reason, a.n_tokens,
    a.start_boundary, a.text,
    -- One of each alternative before a second of any.
    row_number() OVER (PARTITION BY a.run_id, a.trace_id, a.unit_index
                       ORDER BY a.turn, g.place, a.item_key, a.replicate) AS seat
FROM (
    SELECT *, row_number() OVER (PARTITION BY run_id, trace_id, unit_index, own_sentence
                                 ORDER BY item_key, replicate) AS turn
    FROM alternatives JOIN selected USING (run_id, trace_id)
) AS a
JOIN grouped AS g
    ON a.run_id = g.run_id AND a.trace_id = g.trace_id AND a.unit_index = g.unit_index
    AND a.own_sentence IS NOT DISTINCT FROM g.own_sentence
WHERE g.place <= $groups
QUALIFY seat <= $most
"""

_ROLLOUTS = """
SELECT
    run_id, trace_id, unit_index, place - 1, left(answer, $chars), reward, finish_reason, n_tokens,
    start_boundary, length(text),
    CASE WHEN length(text) > $clip
         THEN left(text, $clip * 3 // 4) || chr(30) || right(text, $clip // 4) ELSE text END
FROM picked WHERE seat <= $seats ORDER BY run_id, trace_id, unit_index, seat
"""


def read(con: DuckDBPyConnection, found: dict[Key, Data], budget: int) -> dict[str, int]:
    """Add `alternatives` to the traces of `found`, by sentence.

    Each is a map: `n` rollouts that left here, `distinct` sentences they wrote, `groups` of [text,
    n, mean reward, similarity, [[answer, n], ...]], and `rollouts` of [group, answer, reward,
    finish_reason, tokens, start boundary, characters, text]; a text that was shortened has U+001E
    where the middle was taken out.

    Args:
        con: An open reader with the table `selected`.
        found: What `reasoning.read` returned.
        budget: About how many characters of JSON to add.

    Returns:
        The caps that held: `groups` and `rollouts` a sentence, `chars` of a rollout.
    """
    con.execute(_GROUPED)
    groups = _cap(con, "grouped", "place", "own_sentence", GROUP_CHARS, MOST_GROUPS, budget // 2)
    spent = _cost(con, "grouped", "place", "own_sentence", GROUP_CHARS, groups)
    con.execute(_PICKED, {"groups": groups, "most": MOST_ROLLOUTS})
    left, clip = max(0, budget - spent), ROLLOUT_CHARS
    while clip > 500 and _cost(con, "picked", "seat", "text", clip, 2) > left:
        clip //= 2
    seats = _cap(con, "picked", "seat", "text", clip, MOST_ROLLOUTS, left)
    entries: dict[tuple[str, str, int], Any] = {}
    for run, trace, index, n, distinct in con.execute(_TOTALS).fetchall():
        if (run, trace) in found:
            entry = {"n": n, "distinct": distinct, "groups": [], "rollouts": []}
            entries[run, trace, index] = entry
            found[run, trace].setdefault("alternatives", {})[index] = entry
    for run, trace, index, _, *row in con.execute(
        _GROUPS, {"chars": GROUP_CHARS, "most": groups}
    ).fetchall():
        if (run, trace, index) in entries:
            entries[run, trace, index]["groups"].append([*round_off(row), []])
    for run, trace, index, place, answer, n in con.execute(
        _ENDS, {"chars": ANSWER_CHARS, "most": groups}
    ).fetchall():
        if (run, trace, index) in entries:
            ends = entries[run, trace, index]["groups"][place - 1][4]
            if len(ends) < 6:
                ends.append([answer, n])
    wanted = {"chars": ANSWER_CHARS, "clip": clip, "seats": seats}
    for run, trace, index, *row in con.execute(_ROLLOUTS, wanted).fetchall():
        if (run, trace, index) in entries:
            entries[run, trace, index]["rollouts"].append(round_off(row))
    return {"groups": groups, "rollouts": seats, "chars": clip}


def _cost(con: DuckDBPyConnection, table: str, place: str, text: str, chars: int, most: int) -> int:
    """Characters that the first `most` entries of every sentence come to."""
    (total,) = con.execute(
        f"SELECT sum(coalesce(strlen(left({text}, $chars)), 0) + {_OVERHEAD}) "
        f"FROM {table} WHERE {place} <= $most",
        {"chars": chars, "most": most},
    ).fetchall()[0]
    return int(total or 0)


def _cap(
    con: DuckDBPyConnection, table: str, place: str, text: str, chars: int, most: int, budget: int
) -> int:
    """The largest number of entries a sentence, from 1, that stays within `budget`."""
    rows = con.execute(
        f"SELECT {place}, sum(sum(coalesce(strlen(left({text}, $chars)), 0) + {_OVERHEAD})) "
        f"OVER (ORDER BY {place}) AS total FROM {table} WHERE {place} <= $most GROUP BY {place} "
        f"ORDER BY {place}",
        {"chars": chars, "most": most},
    ).fetchall()
    fits = [int(k) for k, total in rows if total <= budget]
    return max(fits, default=1)
