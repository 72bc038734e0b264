-- How the distribution of final answers changes across one sentence of a trace.
-- param trace: id or name of the trace
-- param sentence: index of the sentence, from 0
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM answer_distributions AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

ends AS (
    SELECT d.answer, d.n, d.share, d.boundary = CAST($sentence AS INTEGER) AS before
    FROM answer_distributions AS d
    INNER JOIN picked ON d.run_id = picked.run_id
    INNER JOIN traces AS t ON d.run_id = t.run_id AND d.trace_id = t.trace_id
    WHERE
        CAST($trace AS VARCHAR) IN (t.trace_id, t.name)
        AND d.unit_kind = 'sentence'
        AND d.boundary IN (CAST($sentence AS INTEGER), CAST($sentence AS INTEGER) + 1)
)

-- A side without any rollout has no shares: NULL, not 0.
SELECT
    answer,
    coalesce(sum(n) FILTER (before), 0)::BIGINT AS n_before,
    coalesce(sum(n) FILTER (NOT before), 0)::BIGINT AS n_after,
    n_before / nullif(sum(n_before) OVER (), 0) AS share_before,
    n_after / nullif(sum(n_after) OVER (), 0) AS share_after,
    share_after - share_before AS change
FROM ends
GROUP BY answer
ORDER BY abs(change) DESC NULLS LAST, answer;
