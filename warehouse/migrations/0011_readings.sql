-- What an ingest read of each file, and what it left out.
CREATE TABLE readings (
    run_id VARCHAR NOT NULL,
    file   VARCHAR NOT NULL,
    what   VARCHAR NOT NULL,
    kind   VARCHAR NOT NULL,
    n      BIGINT  NOT NULL,
    PRIMARY KEY (run_id, file, what, kind),
    CHECK (what IN ('read', 'left_out', 'rejected')),
    CHECK (n >= 1)
);
COMMENT ON TABLE readings IS 'One row per file and kind of thing that an ingest read in it or left out of it.';
COMMENT ON COLUMN readings.run_id IS 'The run that read it.';
COMMENT ON COLUMN readings.file IS 'The file as it was named.';
COMMENT ON COLUMN readings.what IS 'read, left_out (with the trace kept) or rejected (the record is in rejects).';
COMMENT ON COLUMN readings.kind IS 'What was counted: traces, messages of models, calls, results, rows of type summary, ...';
COMMENT ON COLUMN readings.n IS 'How many.';
