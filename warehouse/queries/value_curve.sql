-- Expected reward from every boundary of one trace.
-- param trace [trace of value_curves]: the trace
-- param run [run with value_curves]: the run; the latest that finished and has any when it is not given (default none)
SELECT v.method, v.boundary, v.value, v.lo, v.hi, v.n, v.status, v.next_text
FROM value_curves AS v
WHERE
    v.run_id = $run
    AND v.trace_id = $trace
ORDER BY v.method, v.evidence, v.boundary;
