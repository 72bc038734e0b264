-- Runs, the latest first, with what they cost.
-- param limit [number]: most runs to list (default 20)
SELECT
    r.run_id,
    r.name,
    r.study,
    r.engine,
    r.status,
    r.started_at,
    c.traces,
    c.rollouts,
    c.errors,
    c.scores
FROM runs AS r
INNER JOIN run_costs AS c ON r.run_id = c.run_id
ORDER BY r.started_at DESC, r.run_id
LIMIT CAST($limit AS BIGINT);
