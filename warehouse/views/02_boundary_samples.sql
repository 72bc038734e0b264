CREATE OR REPLACE VIEW boundary_samples AS
SELECT
    b.run_id,
    b.trace_id,
    b.trace_name,
    b.unit_kind,
    b.boundary,
    r.item_key,
    r.replicate,
    r.start_boundary,
    r.start_token < b.token AS recycled,
    r.answer,
    r.reward,
    r.n_tokens
FROM boundaries AS b
INNER JOIN rollouts AS r
    ON
        b.run_id = r.run_id
        AND b.trace_id = r.trace_id
        AND b.token >= r.start_token
        AND b.token <= r.diverge_token
WHERE r.grade_status <> 'ungraded' AND r.intervention = '';

COMMENT ON VIEW boundary_samples IS 'One row per graded rollout and boundary it is an exact sample from: rollouts started there, and earlier ones that wrote the trace itself up to there. Key: (run_id, trace_id, unit_kind, boundary, item_key, replicate).';
COMMENT ON COLUMN boundary_samples.run_id IS 'The run.';
COMMENT ON COLUMN boundary_samples.trace_id IS 'The trace.';
COMMENT ON COLUMN boundary_samples.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN boundary_samples.unit_kind IS 'Kind of the units the boundary separates.';
COMMENT ON COLUMN boundary_samples.boundary IS 'The boundary it is a sample from.';
COMMENT ON COLUMN boundary_samples.item_key IS 'With replicate, the rollout.';
COMMENT ON COLUMN boundary_samples.replicate IS 'With item_key, the rollout.';
COMMENT ON COLUMN boundary_samples.start_boundary IS 'The boundary it was started from.';
COMMENT ON COLUMN boundary_samples.recycled IS 'Whether it was started earlier and reused here.';
COMMENT ON COLUMN boundary_samples.answer IS 'Normalised answer category; unanswered is one.';
COMMENT ON COLUMN boundary_samples.reward IS 'In [0, 1], higher is better.';
COMMENT ON COLUMN boundary_samples.n_tokens IS 'Tokens it generated since start_boundary.';
