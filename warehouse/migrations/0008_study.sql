-- A run says which study it is, by the name that configs and commands use.
ALTER TABLE runs RENAME COLUMN pipeline TO study;
UPDATE runs SET study = CASE study
    WHEN 'thought_anchors' THEN 'anchors'
    WHEN 'context_attribution' THEN 'cite'
    WHEN 'failure_audit' THEN 'audit'
    ELSE study
END;
COMMENT ON COLUMN runs.study IS 'What was studied: anchors, cite, audit, ...; or ingest.';
