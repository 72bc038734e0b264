CREATE TABLE pruned (
    run_id         VARCHAR NOT NULL,
    trace_id       VARCHAR NOT NULL,
    k              INTEGER NOT NULL,
    kept           JSON NOT NULL,
    n_spans        INTEGER NOT NULL,
    tokens         INTEGER NOT NULL,
    tokens_left    INTEGER,
    response       VARCHAR,
    same           BOOLEAN,
    logprob_change DOUBLE,
    status         VARCHAR NOT NULL,
    reason         VARCHAR,
    PRIMARY KEY (run_id, trace_id, k),
    CHECK (isfinite(logprob_change)),
    CHECK (k > 0 AND n_spans > 0 AND tokens > 0 AND tokens_left > 0),
    CHECK (status IN ('ok', 'failed')),
    CHECK ((response IS NOT NULL) = (status = 'ok')),
    CHECK ((same IS NOT NULL) = (status = 'ok')),
    CHECK ((reason IS NULL) = (status = 'ok'))
);
COMMENT ON TABLE pruned IS 'One row per context that was answered again from its top spans alone (context.prune).';
COMMENT ON COLUMN pruned.run_id IS 'The run.';
COMMENT ON COLUMN pruned.trace_id IS 'The trace.';
COMMENT ON COLUMN pruned.k IS 'Spans asked to be kept; the context may have fewer.';
COMMENT ON COLUMN pruned.kept IS 'Indices of the spans that were kept, in the order of the text: those whose positive weights over all targets sum to most.';
COMMENT ON COLUMN pruned.n_spans IS 'Spans of the whole context.';
COMMENT ON COLUMN pruned.tokens IS 'Tokens of the whole prompt.';
COMMENT ON COLUMN pruned.tokens_left IS 'Tokens of the pruned prompt; NULL when the chat template refuses it.';
COMMENT ON COLUMN pruned.response IS 'What the model wrote from the pruned prompt, sampled as the run samples; NULL when it failed.';
COMMENT ON COLUMN pruned.same IS 'Whether that is the explained response, white space aside.';
COMMENT ON COLUMN pruned.logprob_change IS 'Log-probability of the explained response given the pruned prompt minus given the whole one, nats: negative when something was lost. NULL when either could not be measured.';
COMMENT ON COLUMN pruned.status IS 'ok or failed.';
COMMENT ON COLUMN pruned.reason IS 'Why it failed.';
