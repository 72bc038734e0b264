-- How the distribution of final answers changes across one sentence of a trace.
-- param trace [trace of rollouts]: the trace
-- param sentence [unit_index of trace_units]: index of the sentence, from 0
-- param run [run with rollouts]: the run; the latest that finished and has any when it is not given (default none)
WITH ends AS (
    SELECT d.answer, d.n, d.share, d.boundary = CAST($sentence AS INTEGER) AS before
    FROM answer_distributions AS d
    WHERE
        d.run_id = $run
        AND d.trace_id = $trace
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
