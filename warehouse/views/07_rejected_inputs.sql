CREATE OR REPLACE VIEW rejected_inputs AS
SELECT
    run_id,
    file,
    reason,
    count(*) AS records,
    min(line) AS first_line,
    min_by(excerpt, line) AS first_excerpt
FROM rejects
GROUP BY run_id, file, reason
ORDER BY run_id, records DESC, file, reason;

COMMENT ON VIEW rejected_inputs IS 'One row per reason for which records of an input file could not be used. Key: (run_id, file, reason).';
COMMENT ON COLUMN rejected_inputs.run_id IS 'The run that read it.';
COMMENT ON COLUMN rejected_inputs.file IS 'The input file.';
COMMENT ON COLUMN rejected_inputs.reason IS 'Why.';
COMMENT ON COLUMN rejected_inputs.records IS 'Records refused for it.';
COMMENT ON COLUMN rejected_inputs.first_line IS 'Line of the first one; 0 when it is about the whole file.';
COMMENT ON COLUMN rejected_inputs.first_excerpt IS 'Its beginning.';
