-- The sentences that changed the outcome most, over a run or in one trace.
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param method: estimator whose numbers are shown; resample-pooled where the run has it, else resample, when it is not given (default none)
-- param limit: most sentences to list (default 10)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM anchors AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

shown AS (
    SELECT
        coalesce(
            CAST($method AS VARCHAR),
            CASE WHEN bool_or(a.method = 'resample-pooled') THEN 'resample-pooled' ELSE 'resample' END
        ) AS method
    FROM anchors AS a
    INNER JOIN picked ON a.run_id = picked.run_id
)

SELECT
    a.trace_name,
    a.unit_index,
    a.text,
    a.role,
    a.value,
    a.lo,
    a.hi,
    a.n,
    a.prob_matters,
    a.p_adjusted,
    a.rank,
    a.method
FROM anchors AS a
INNER JOIN picked ON a.run_id = picked.run_id
WHERE
    ($trace IS NULL OR CAST($trace AS VARCHAR) IN (a.trace_id, a.trace_name))
    AND a.method = (SELECT shown.method FROM shown)
ORDER BY abs(a.value) DESC NULLS LAST, a.trace_name, a.method, a.unit_index
LIMIT CAST($limit AS BIGINT);
