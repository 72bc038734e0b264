-- Expected reward from every boundary of one trace.
-- param trace: id or name of the trace
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM value_curves AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
)

SELECT v.method, v.boundary, v.value, v.lo, v.hi, v.n, v.status, v.next_text
FROM value_curves AS v
INNER JOIN picked ON v.run_id = picked.run_id
WHERE CAST($trace AS VARCHAR) IN (v.trace_id, v.trace_name)
ORDER BY v.method, v.evidence, v.boundary;
