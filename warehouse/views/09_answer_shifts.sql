CREATE OR REPLACE VIEW answer_shifts AS
WITH sides AS (
    SELECT run_id, trace_id, trace_name, unit_kind, boundary AS unit_index, answer, n, share, true AS before
    FROM answer_distributions
    UNION ALL
    SELECT run_id, trace_id, trace_name, unit_kind, boundary - 1, answer, n, share, false
    FROM answer_distributions
    WHERE boundary > 0
)

SELECT
    u.run_id,
    u.trace_id,
    s.trace_name,
    u.unit_index,
    u.text,
    s.answer,
    coalesce(max(s.n) FILTER (s.before), 0) AS n_before,
    coalesce(max(s.n) FILTER (NOT s.before), 0) AS n_after,
    -- A side without any rollout has no shares: NULL, not 0.
    CASE WHEN bool_or(any_before) THEN coalesce(max(s.share) FILTER (s.before), 0) END
        AS share_before,
    CASE WHEN bool_or(any_after) THEN coalesce(max(s.share) FILTER (NOT s.before), 0) END
        AS share_after,
    share_after - share_before AS change
FROM (
    SELECT
        *,
        bool_or(before) OVER unit AS any_before,
        bool_or(NOT before) OVER unit AS any_after
    FROM sides
    WINDOW unit AS (PARTITION BY run_id, trace_id, unit_kind, unit_index)
) AS s
INNER JOIN units AS u
    ON
        s.run_id = u.run_id
        AND s.trace_id = u.trace_id
        AND s.unit_kind = u.unit_kind
        AND s.unit_index = u.unit_index
WHERE s.unit_kind = 'sentence'
GROUP BY u.run_id, u.trace_id, s.trace_name, u.unit_index, u.text, s.answer
ORDER BY u.run_id, u.trace_id, u.unit_index, abs(change) DESC NULLS LAST, s.answer;

COMMENT ON VIEW answer_shifts IS 'One row per sentence and answer: how often rollouts from before and from after the sentence end in it. The two sides share rollouts that wrote the sentence themselves; scores tv and js have the distance with an interval. Key: (run_id, trace_id, unit_index, answer).';
COMMENT ON COLUMN answer_shifts.run_id IS 'The run.';
COMMENT ON COLUMN answer_shifts.trace_id IS 'The trace.';
COMMENT ON COLUMN answer_shifts.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN answer_shifts.unit_index IS 'The sentence.';
COMMENT ON COLUMN answer_shifts.text IS 'Its text.';
COMMENT ON COLUMN answer_shifts.answer IS 'Normalised answer category; unanswered is one.';
COMMENT ON COLUMN answer_shifts.n_before IS 'Rollouts from before the sentence that end in this answer.';
COMMENT ON COLUMN answer_shifts.n_after IS 'Rollouts from after it that do.';
COMMENT ON COLUMN answer_shifts.share_before IS 'n_before over all graded rollouts from there; NULL when there are none.';
COMMENT ON COLUMN answer_shifts.share_after IS 'n_after over all graded rollouts from there; NULL when there are none.';
COMMENT ON COLUMN answer_shifts.change IS 'share_after minus share_before: positive when the sentence made the answer more likely.';
