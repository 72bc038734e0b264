-- Rollouts started from one boundary of a trace, with how they ended.
-- param trace: id or name of the trace
-- param boundary: index of the boundary: the place before that sentence
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
-- param limit: most rollouts to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM rollouts AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
)

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
INNER JOIN picked ON r.run_id = picked.run_id
INNER JOIN traces AS t ON r.run_id = t.run_id AND r.trace_id = t.trace_id
WHERE
    CAST($trace AS VARCHAR) IN (t.trace_id, t.name)
    AND r.start_boundary = CAST($boundary AS INTEGER)
ORDER BY r.item_key, r.replicate
LIMIT CAST($limit AS BIGINT);
