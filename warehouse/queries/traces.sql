-- Traces of a run, those that one sentence changed most first.
-- param run [run with traces]: the run; the latest that finished when it is not given (default none)
-- param method [method of anchors]: estimator whose numbers are shown; resample-pooled where the run has it, else resample, when it is not given (default none)
-- param limit [number]: most traces to list (default 20)
WITH shown AS (
    SELECT
        coalesce(
            CAST($method AS VARCHAR),
            CASE WHEN bool_or(a.method = 'resample-pooled') THEN 'resample-pooled' ELSE 'resample' END
        ) AS method
    FROM anchors AS a
    WHERE a.run_id = $run
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
LEFT JOIN top ON t.run_id = top.run_id AND t.trace_id = top.trace_id
WHERE t.run_id = $run
ORDER BY abs(top.value) DESC NULLS LAST, t.name
LIMIT CAST($limit AS BIGINT);
