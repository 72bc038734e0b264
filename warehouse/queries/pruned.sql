-- Contexts answered again from their top spans alone: what is left of the prompt, and whether the answer is the same.
-- param run: id or name of the run; the latest one that pruned contexts when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param limit: most contexts to list (default 50)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT p.run_id FROM pruned AS p)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

before AS (
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
INNER JOIN picked ON p.run_id = picked.run_id
INNER JOIN traces AS t ON p.run_id = t.run_id AND p.trace_id = t.trace_id
INNER JOIN before AS b ON p.run_id = b.run_id AND p.trace_id = b.trace_id
WHERE $trace IS NULL OR CAST($trace AS VARCHAR) IN (p.trace_id, t.name)
ORDER BY p.same, p.logprob_change, t.name
LIMIT CAST($limit AS BIGINT);
