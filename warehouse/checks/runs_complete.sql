-- A complete run has every replicate it planned, and every rollout was planned.
WITH found AS (
    SELECT
        i.run_id,
        i.trace_id,
        i.item_key,
        i.replicates AS planned,
        count(DISTINCT r.replicate) FILTER (r.replicate < i.replicates) AS present
    FROM items AS i
    INNER JOIN runs ON i.run_id = runs.run_id
    LEFT JOIN rollouts AS r
        ON i.run_id = r.run_id AND i.trace_id = r.trace_id AND i.item_key = r.item_key
    WHERE runs.status IN ('complete', 'complete_with_errors')
    GROUP BY ALL
)

SELECT 'replicates are missing' AS problem, run_id, trace_id, item_key, planned, present
FROM found
WHERE present < planned
UNION ALL
SELECT 'not planned', r.run_id, r.trace_id, r.item_key, i.replicates, count(*)
FROM rollouts AS r
LEFT JOIN items AS i
    ON r.run_id = i.run_id AND r.trace_id = i.trace_id AND r.item_key = i.item_key
WHERE i.item_key IS NULL OR r.replicate >= i.replicates
GROUP BY ALL;
