-- Rollouts started from one boundary of a trace, with how they ended.
-- param trace [trace of rollouts]: the trace
-- param boundary [boundary of boundaries]: index of the boundary: the place before that sentence
-- param run [run with rollouts]: the run; the latest that finished and has any when it is not given (default none)
-- param limit [number]: most rollouts to list (default 20)
SELECT
    r.item_key,
    r.replicate,
    r.answer,
    r.reward,
    r.grade_status,
    r.finish_reason,
    r.error,
    r.n_tokens,
    r.diverge_token - r.start_token AS tokens_shared_with_trace,
    r.text
FROM rollouts AS r
WHERE
    r.run_id = $run
    AND r.trace_id = $trace
    AND r.start_boundary = CAST($boundary AS INTEGER)
ORDER BY r.item_key, r.replicate
LIMIT CAST($limit AS BIGINT);
