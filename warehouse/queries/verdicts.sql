-- What audits concluded: which step decided each failure, whose it was, how sure, and why.
-- param run: id or name of the run; the latest audit when it is not given (default none)
-- param evidence: executed, replayed or judged; all when it is not given (default none)
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
WHERE $evidence IS NULL OR v.evidence = CAST($evidence AS VARCHAR)
ORDER BY
    list_position(['executed', 'replayed', 'scored', 'judged'], v.evidence), v.method, t.name
LIMIT CAST($limit AS BIGINT);
