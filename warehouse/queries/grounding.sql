-- Statements of responses: supported by the context and by which span, from memory, or derived.
-- param run: id or name of the run; the latest one with contexts when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param method: estimator whose spans are shown (default ablate)
-- param label: only grounded, diffuse, memory, derived, parametric, ungrounded or insufficient (default none)
-- param limit: most statements to list (default 50)
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
    g.trace_name,
    g.position,
    g.label,
    g.statement,
    g.top_span,
    g.top_value,
    g.top_lo,
    g.top_hi,
    g.supporting,
    g.parametric,
    g.lds,
    g.oof_lds,
    g.ablations
FROM grounding AS g
INNER JOIN picked ON g.run_id = picked.run_id
WHERE
    ($trace IS NULL OR CAST($trace AS VARCHAR) IN (g.trace_id, g.trace_name))
    AND coalesce(g.method, CAST($method AS VARCHAR)) = CAST($method AS VARCHAR)
    AND ($label IS NULL OR g.label = CAST($label AS VARCHAR))
ORDER BY g.trace_name, g.position, g.method
LIMIT CAST($limit AS BIGINT);
