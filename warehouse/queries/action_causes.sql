-- What made models take the bad actions: the pieces of their input that raised them most.
-- param run [run with verdicts]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of verdicts]: the trace; all when it is not given (default none)
-- param limit [number]: most pieces to list (default 20)
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
WHERE
    a.run_id = $run
    AND ($trace IS NULL OR a.trace_id = $trace)
    AND a.lo > 0
ORDER BY a.value DESC, a.trace_name, a.target, a.unit_index
LIMIT CAST($limit AS BIGINT);
