-- Traces of a run, those that one sentence changed most first.
-- param run: id or name of the run; the latest one when it is not given (default none)
-- param method: estimator whose numbers are shown; resample-pooled where the run has it, else resample, when it is not given (default none)
-- param limit: most traces to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE $run IS NULL OR CAST($run AS VARCHAR) IN (run_id, name)
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
),

top AS (
    SELECT run_id, trace_id, method, unit_index, text, value
    FROM anchors
    WHERE rank = 1 AND method = (SELECT shown.method FROM shown)
)

SELECT
    t.trace_id,
    t.name,
    t.answer,
    t.reference,
    t.success,
    t.n_units,
    top.method,
    top.value AS largest_delta,
    top.unit_index AS at_sentence,
    top.text
FROM traces AS t
INNER JOIN picked ON t.run_id = picked.run_id
LEFT JOIN top ON t.run_id = top.run_id AND t.trace_id = top.trace_id
ORDER BY abs(top.value) DESC NULLS LAST, t.name
LIMIT CAST($limit AS BIGINT);
