CREATE OR REPLACE VIEW run_provenance AS
SELECT
    run_id,
    name,
    study,
    engine,
    model,
    model_revision,
    dtype,
    seed,
    status,
    started_at,
    finished_at,
    tracelab_version,
    versions,
    config,
    config_digest
FROM runs
ORDER BY started_at, run_id;

COMMENT ON VIEW run_provenance IS 'One row per run: what its numbers come from. Key: (run_id).';
COMMENT ON COLUMN run_provenance.run_id IS 'The run.';
COMMENT ON COLUMN run_provenance.name IS 'What the user calls it.';
COMMENT ON COLUMN run_provenance.study IS 'What was studied: anchors, cite, audit, ...; or ingest.';
COMMENT ON COLUMN run_provenance.engine IS 'What sampled.';
COMMENT ON COLUMN run_provenance.model IS 'Name or path of the model; NULL when the run used none.';
COMMENT ON COLUMN run_provenance.model_revision IS 'Hash of its weights, or the revision asked for.';
COMMENT ON COLUMN run_provenance.dtype IS 'Precision it ran in.';
COMMENT ON COLUMN run_provenance.seed IS 'The seed every sample is derived from.';
COMMENT ON COLUMN run_provenance.status IS 'As in runs.';
COMMENT ON COLUMN run_provenance.started_at IS 'Start of the first invocation, UTC.';
COMMENT ON COLUMN run_provenance.finished_at IS 'End of the last invocation, UTC; NULL while running.';
COMMENT ON COLUMN run_provenance.tracelab_version IS 'The tracelab that last worked on it.';
COMMENT ON COLUMN run_provenance.versions IS 'Versions of Python and of the libraries that matter.';
COMMENT ON COLUMN run_provenance.config IS 'The resolved configuration.';
COMMENT ON COLUMN run_provenance.config_digest IS 'Content hash of the configuration.';
