-- What re-executions concluded: which step decided each failure, whose it was, how sure, and why. What rules and judges name is in named_steps.
-- param run: id or name of the run; the latest audit when it is not given (default none)
-- param evidence: executed or replayed; the strongest that the run has when it is not given (default none)
-- param limit: most verdicts to list (default 50)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN study = 'audit'
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

strongest AS (
    SELECT min(e.evidence) AS evidence  -- executed comes before replayed
    FROM verdicts AS e
    INNER JOIN picked ON e.run_id = picked.run_id
    WHERE e.evidence IN ('executed', 'replayed')
)

SELECT
    t.name AS trace,
    v.evidence,
    v.method,
    v.status,
    v.decisive_step AS step,
    v.agent,
    v.tool,
    v.who,
    v.posterior,
    v.reason,
    v.recorded,
    v.came_instead
FROM verdicts AS v
INNER JOIN picked ON v.run_id = picked.run_id
INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
CROSS JOIN strongest
WHERE v.evidence = coalesce(CAST($evidence AS VARCHAR), strongest.evidence)
ORDER BY v.method, t.name
LIMIT CAST($limit AS BIGINT);
