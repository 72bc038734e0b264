CREATE OR REPLACE VIEW value_curves AS
SELECT
    s.run_id,
    s.trace_id,
    t.name AS trace_name,
    s.method,
    s.evidence,
    s.unit_index AS boundary,
    s.value,
    s.lo,
    s.hi,
    s.level,
    s.n,
    s.status,
    u.text AS next_text
FROM scores AS s
INNER JOIN traces AS t ON s.run_id = t.run_id AND s.trace_id = t.trace_id
LEFT JOIN units AS u
    ON
        s.run_id = u.run_id
        AND s.trace_id = u.trace_id
        AND u.unit_kind = 'sentence'
        AND s.unit_index = u.unit_index
WHERE s.unit_kind = 'boundary' AND s.metric = 'value' AND s.target = ''
ORDER BY s.run_id, s.trace_id, s.method, s.evidence, s.unit_index;

COMMENT ON VIEW value_curves IS 'One row per point V_b of a trace''s value curve, by method and evidence. Key: (run_id, trace_id, method, evidence, boundary).';
COMMENT ON COLUMN value_curves.run_id IS 'The run.';
COMMENT ON COLUMN value_curves.trace_id IS 'The trace.';
COMMENT ON COLUMN value_curves.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN value_curves.method IS 'What estimated it.';
COMMENT ON COLUMN value_curves.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN value_curves.boundary IS 'The place before sentence number boundary; N is the end.';
COMMENT ON COLUMN value_curves.value IS 'Expected reward when the trace is continued from here, in [0, 1]; NULL when it could not be measured.';
COMMENT ON COLUMN value_curves.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN value_curves.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN value_curves.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN value_curves.n IS 'Graded rollouts behind it.';
COMMENT ON COLUMN value_curves.status IS 'ok, insufficient, certified or failed.';
COMMENT ON COLUMN value_curves.next_text IS 'The sentence that follows; NULL at the end.';
