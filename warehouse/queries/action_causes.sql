-- What made models take the bad actions: the pieces of their input that raised them most.
-- param run: id or name of the run; the latest audit when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param limit: most pieces to list (default 20)
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
    a.trace_name AS trace,
    a.target,
    a.rank,
    a.span,
    a.role,
    a.step,
    a.agent,
    a.tool,
    a.value,
    a.lo,
    a.hi
FROM action_causes AS a
INNER JOIN picked ON a.run_id = picked.run_id
WHERE
    ($trace IS NULL OR CAST($trace AS VARCHAR) IN (a.trace_id, a.trace_name))
    AND a.lo > 0
ORDER BY a.value DESC, a.trace_name, a.target, a.unit_index
LIMIT CAST($limit AS BIGINT);
