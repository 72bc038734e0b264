CREATE OR REPLACE VIEW boundaries AS
SELECT
    b.run_id,
    b.trace_id,
    t.name AS trace_name,
    b.unit_kind,
    b.boundary,
    b.token,
    b.char_position,
    b.next_text
FROM (
    SELECT
        run_id,
        trace_id,
        unit_kind,
        unit_index AS boundary,
        start_token AS token,
        start_char AS char_position,
        text AS next_text
    FROM units
    UNION ALL
    SELECT
        run_id,
        trace_id,
        unit_kind,
        max(unit_index) + 1 AS boundary,
        max_by(end_token, unit_index) AS token,
        max_by(end_char, unit_index) AS char_position,
        NULL AS next_text
    FROM units
    GROUP BY run_id, trace_id, unit_kind
) AS b
LEFT JOIN traces AS t ON b.run_id = t.run_id AND b.trace_id = t.trace_id;

COMMENT ON VIEW boundaries IS 'One row per place between units, 0 .. N, by unit kind; boundary N is the end. Key: (run_id, trace_id, unit_kind, boundary).';
COMMENT ON COLUMN boundaries.run_id IS 'The run.';
COMMENT ON COLUMN boundaries.trace_id IS 'The trace.';
COMMENT ON COLUMN boundaries.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN boundaries.unit_kind IS 'sentence, span or step.';
COMMENT ON COLUMN boundaries.boundary IS 'Index: the place before unit number boundary.';
COMMENT ON COLUMN boundaries.token IS 'Response tokens before it.';
COMMENT ON COLUMN boundaries.char_position IS 'Characters of the response before it.';
COMMENT ON COLUMN boundaries.next_text IS 'The unit that follows it; NULL at the end.';
