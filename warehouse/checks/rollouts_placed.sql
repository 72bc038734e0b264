-- Every rollout and every planned item starts from a boundary that exists, at that boundary's token.
WITH placed AS (
    SELECT 'items' AS in_table, run_id, trace_id, item_key, start_boundary, start_token
    FROM items
    UNION
    SELECT 'rollouts', run_id, trace_id, item_key, start_boundary, start_token
    FROM rollouts
)

SELECT p.*
FROM placed AS p
INNER JOIN traces AS t ON p.run_id = t.run_id AND p.trace_id = t.trace_id
ANTI JOIN boundaries AS b
    ON
        p.run_id = b.run_id
        AND p.trace_id = b.trace_id
        AND p.start_boundary = b.boundary
        AND p.start_token = b.token;
