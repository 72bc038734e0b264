-- The spans of a context that raise statements most.
-- param run [run with context_effects]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of context_effects]: the trace; all when it is not given (default none)
-- param method [method of context_effects]: estimator whose numbers are shown (default ablate)
-- param limit [number]: most spans to list (default 20)
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
WHERE
    e.run_id = $run
    AND ($trace IS NULL OR e.trace_id = $trace)
    AND e.method = CAST($method AS VARCHAR)
ORDER BY e.value DESC NULLS LAST, e.trace_name, e.position, e.unit_index
LIMIT CAST($limit AS BIGINT);
