-- Every trace has the units it says it has, and turns 0, 1, ... that end with the assistant's.
WITH unit_counts AS (
    SELECT run_id, trace_id, count(*) AS n
    FROM units
    GROUP BY ALL
),

turn_counts AS (
    SELECT
        run_id,
        trace_id,
        count(DISTINCT turn_index) AS n,
        max(turn_index) AS last_index,
        max_by(role, turn_index) AS last_role
    FROM turns
    GROUP BY ALL
)

SELECT
    t.run_id,
    t.trace_id,
    t.n_units AS units_said,
    coalesce(u.n, 0) AS units_found,
    coalesce(m.n, 0) AS turns_found,
    m.last_role
FROM traces AS t
LEFT JOIN unit_counts AS u ON t.run_id = u.run_id AND t.trace_id = u.trace_id
LEFT JOIN turn_counts AS m ON t.run_id = m.run_id AND t.trace_id = m.trace_id
WHERE
    t.n_units <> coalesce(u.n, 0)
    OR m.n IS NULL
    OR m.n <> m.last_index + 1
    OR m.last_role <> 'assistant';
