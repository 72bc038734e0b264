-- Statements of responses: supported by the context and by which span, from memory, or derived.
-- param run [run with grounding]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of grounding]: the trace; all when it is not given (default none)
-- param method [method of grounding]: estimator whose spans are shown (default ablate)
-- param label [grounded | diffuse | memory | derived | parametric | ungrounded | insufficient]: only this one; all when it is not given (default none)
-- param limit [number]: most statements to list (default 50)
SELECT
    g.trace_name,
    g.position,
    g.label,
    g.statement,
    g.top_span,
    g.top_value,
    g.top_lo,
    g.top_hi,
    g.supporting,
    g.parametric,
    g.lds,
    g.oof_lds,
    g.ablations
FROM grounding AS g
WHERE
    g.run_id = $run
    AND ($trace IS NULL OR g.trace_id = $trace)
    AND coalesce(g.method, CAST($method AS VARCHAR)) = CAST($method AS VARCHAR)
    AND ($label IS NULL OR g.label = CAST($label AS VARCHAR))
ORDER BY g.trace_name, g.position, g.method
LIMIT CAST($limit AS BIGINT);
