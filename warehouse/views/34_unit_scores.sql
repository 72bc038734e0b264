CREATE OR REPLACE VIEW unit_scores AS
SELECT
    s.run_id,
    s.trace_id,
    t.name AS trace_name,
    s.unit_kind,
    s.unit_index,
    s.method,
    s.metric,
    s.target,
    s.evidence,
    s.value,
    s.lo,
    s.hi,
    s.level,
    s.n,
    s.status,
    (s.extra ->> 'p')::DOUBLE AS p,
    (s.extra ->> 'p_adjusted')::DOUBLE AS p_adjusted,
    s.extra ->> 'reason' AS reason,
    s.estimator_version
FROM scores AS s
LEFT JOIN traces AS t ON s.run_id = t.run_id AND s.trace_id = t.trace_id
ORDER BY s.run_id, s.trace_id, s.unit_kind, s.unit_index, s.method, s.metric, s.target;

COMMENT ON VIEW unit_scores IS 'Every number about one unit or boundary, whatever the metric. Key: (run_id, trace_id, unit_kind, unit_index, method, metric, target).';
COMMENT ON COLUMN unit_scores.run_id IS 'The run.';
COMMENT ON COLUMN unit_scores.trace_id IS 'The trace.';
COMMENT ON COLUMN unit_scores.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN unit_scores.unit_kind IS 'sentence, span or step; boundary for points of the value curve.';
COMMENT ON COLUMN unit_scores.unit_index IS 'Index of the unit, or boundary 0 .. N.';
COMMENT ON COLUMN unit_scores.method IS 'What estimated it.';
COMMENT ON COLUMN unit_scores.metric IS 'As in scores.';
COMMENT ON COLUMN unit_scores.target IS 'What it is about where a method has several targets; else empty.';
COMMENT ON COLUMN unit_scores.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN unit_scores.value IS 'Point estimate, in the unit of the metric; NULL when it could not be measured.';
COMMENT ON COLUMN unit_scores.lo IS 'Lower end of the interval; NULL where the metric has none.';
COMMENT ON COLUMN unit_scores.hi IS 'Upper end of the interval; NULL where the metric has none.';
COMMENT ON COLUMN unit_scores.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN unit_scores.n IS 'Graded rollouts, or probes, behind it.';
COMMENT ON COLUMN unit_scores.status IS 'ok, insufficient, certified or failed.';
COMMENT ON COLUMN unit_scores.p IS 'p-value of no effect; NULL for methods without one.';
COMMENT ON COLUMN unit_scores.p_adjusted IS 'p adjusted over the units of the trace (Benjamini-Hochberg).';
COMMENT ON COLUMN unit_scores.reason IS 'Why it could not be measured, where the method says.';
COMMENT ON COLUMN unit_scores.estimator_version IS 'Version of the estimator.';
