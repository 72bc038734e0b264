-- Contexts answered again from their top spans alone: what is left of the prompt, and whether the answer is the same.
-- param run [run with pruned]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of pruned]: the trace; all when it is not given (default none)
-- param limit [number]: most contexts to list (default 50)
WITH before AS (
    SELECT
        run_id,
        trace_id,
        arg_max(text, turn_index) AS response
    FROM turns
    GROUP BY run_id, trace_id
)

SELECT
    t.name AS trace_name,
    p.same,
    p.logprob_change,
    p.tokens,
    p.tokens_left,
    p.kept,
    b.response AS response_before,
    p.response AS response_after,
    p.status,
    p.reason
FROM pruned AS p
INNER JOIN traces AS t ON p.run_id = t.run_id AND p.trace_id = t.trace_id
INNER JOIN before AS b ON p.run_id = b.run_id AND p.trace_id = b.trace_id
WHERE
    p.run_id = $run
    AND ($trace IS NULL OR p.trace_id = $trace)
ORDER BY p.same, p.logprob_change, t.name
LIMIT CAST($limit AS BIGINT);
