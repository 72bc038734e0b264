-- Traces of a run, those that one sentence changed most first.
-- param run: id or name of the run; the latest one when it is not given (default none)
-- param method: estimator whose numbers are shown (default resample-pooled)
-- param limit: most traces to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE $run IS NULL OR CAST($run AS VARCHAR) IN (run_id, name)
    ORDER BY started_at DESC
    LIMIT 1
),

top AS (
    SELECT run_id, trace_id, method, unit_index, text, value
    FROM anchors
    WHERE rank = 1 AND method = CAST($method AS VARCHAR)
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
