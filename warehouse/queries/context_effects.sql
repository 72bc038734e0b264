-- The spans of a context that raise statements most.
-- param run: id or name of the run; the latest one with contexts when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param method: estimator whose numbers are shown (default ablate)
-- param limit: most spans to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN study = 'cite'
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
)

SELECT
    e.trace_name,
    e.statement,
    e.rank,
    e.span,
    e.role,
    e.value,
    e.lo,
    e.hi,
    e.n,
    e.status
FROM context_effects AS e
INNER JOIN picked ON e.run_id = picked.run_id
WHERE
    ($trace IS NULL OR CAST($trace AS VARCHAR) IN (e.trace_id, e.trace_name))
    AND e.method = CAST($method AS VARCHAR)
ORDER BY e.value DESC NULLS LAST, e.trace_name, e.position, e.unit_index
LIMIT CAST($limit AS BIGINT);
