CREATE OR REPLACE VIEW alternatives AS
SELECT
    r.run_id,
    r.trace_id,
    t.name AS trace_name,
    r.left_unit AS unit_index,
    r.item_key,
    r.replicate,
    r.start_boundary,
    r.own_sentence,
    r.similarity,
    r.answer,
    r.reward,
    r.finish_reason,
    r.n_tokens,
    r.text
FROM rollouts AS r
LEFT JOIN traces AS t ON r.run_id = t.run_id AND r.trace_id = t.trace_id
WHERE r.grade_status <> 'ungraded' AND r.intervention = '' AND r.left_unit IS NOT NULL
ORDER BY r.run_id, r.trace_id, r.left_unit, r.item_key, r.replicate;

COMMENT ON VIEW alternatives IS 'What was written instead of a sentence, and where it led. One row per graded rollout that leaves the trace, under the sentence it leaves in. Key: (run_id, trace_id, item_key, replicate).';
COMMENT ON COLUMN alternatives.run_id IS 'The run.';
COMMENT ON COLUMN alternatives.trace_id IS 'The trace.';
COMMENT ON COLUMN alternatives.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN alternatives.unit_index IS 'The sentence of the trace in which it first differs.';
COMMENT ON COLUMN alternatives.item_key IS 'With replicate, the rollout.';
COMMENT ON COLUMN alternatives.replicate IS 'With item_key, the rollout.';
COMMENT ON COLUMN alternatives.start_boundary IS 'The boundary it was started from; before unit_index, it wrote the trace itself in between.';
COMMENT ON COLUMN alternatives.own_sentence IS 'What it wrote in place of the sentence; NULL if nothing.';
COMMENT ON COLUMN alternatives.similarity IS 'Cosine similarity of the two, in [-1, 1]; NULL if not computed.';
COMMENT ON COLUMN alternatives.answer IS 'Normalised answer category it ended in; unanswered is one.';
COMMENT ON COLUMN alternatives.reward IS 'In [0, 1], higher is better.';
COMMENT ON COLUMN alternatives.finish_reason IS 'stop or length (cut at max_tokens).';
COMMENT ON COLUMN alternatives.n_tokens IS 'Tokens it generated since start_boundary.';
COMMENT ON COLUMN alternatives.text IS 'All it generated, as it is.';
