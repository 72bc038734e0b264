-- The sentences that changed the outcome most, over a run or in one trace. Across traces, stars are those of p_adjusted_run.
-- param run [run with anchors]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of anchors]: the trace; all when it is not given (default none)
-- param method [method of anchors]: estimator whose numbers are shown; resample-pooled where the run has it, else resample, when it is not given (default none)
-- param limit [number]: most sentences to list (default 10)
WITH shown AS (
    SELECT
        coalesce(
            CAST($method AS VARCHAR),
            CASE WHEN bool_or(a.method = 'resample-pooled') THEN 'resample-pooled' ELSE 'resample' END
        ) AS method
    FROM anchors AS a
    WHERE a.run_id = $run
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
    a.p_adjusted_run,
    a.rank,
    a.method
FROM anchors AS a
WHERE
    a.run_id = $run
    AND ($trace IS NULL OR a.trace_id = $trace)
    AND a.method = (SELECT shown.method FROM shown)
ORDER BY abs(a.value) DESC NULLS LAST, a.trace_name, a.method, a.unit_index
LIMIT CAST($limit AS BIGINT);
