CREATE OR REPLACE VIEW answer_distributions AS
SELECT
    run_id,
    trace_id,
    trace_name,
    unit_kind,
    boundary,
    answer,
    count(*) AS n,
    count(*) / sum(count(*)) OVER (PARTITION BY run_id, trace_id, unit_kind, boundary) AS share,
    avg(reward) AS mean_reward
FROM boundary_samples
GROUP BY run_id, trace_id, trace_name, unit_kind, boundary, answer
ORDER BY run_id, trace_id, unit_kind, boundary, n DESC, answer;

COMMENT ON VIEW answer_distributions IS 'One row per answer that graded rollouts from a boundary end in, recycled ones included; the same rollouts that the values of method resample rest on (unless resample.recycle is off). Key: (run_id, trace_id, unit_kind, boundary, answer).';
COMMENT ON COLUMN answer_distributions.run_id IS 'The run.';
COMMENT ON COLUMN answer_distributions.trace_id IS 'The trace.';
COMMENT ON COLUMN answer_distributions.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN answer_distributions.unit_kind IS 'Kind of the units the boundary separates.';
COMMENT ON COLUMN answer_distributions.boundary IS 'The boundary the rollouts are samples from.';
COMMENT ON COLUMN answer_distributions.answer IS 'Normalised answer category; unanswered is one.';
COMMENT ON COLUMN answer_distributions.n IS 'Rollouts that end in it.';
COMMENT ON COLUMN answer_distributions.share IS 'Their share of the boundary''s graded rollouts, in (0, 1]; the shares of a boundary sum to 1.';
COMMENT ON COLUMN answer_distributions.mean_reward IS 'Mean reward of these rollouts, in [0, 1].';
