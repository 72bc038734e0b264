-- What is explained may be what the model answers, instead of how likely a given text is.
ALTER TABLE targets ADD COLUMN outcome VARCHAR DEFAULT 'logprob';
ALTER TABLE targets ADD COLUMN value_full DOUBLE;
ALTER TABLE targets ADD COLUMN value_empty DOUBLE;
COMMENT ON COLUMN targets.outcome IS 'What its effects are about: logprob (nats of log-probability), or what of sampled answers is compared, in [0, 1]: answer (the share that is the response''s own answer), reward (their mean), similarity (of the most similar sentence of each, the mean).';
COMMENT ON COLUMN targets.value_full IS 'Of sampled answers: the outcome given the whole context. NULL where log-probabilities are explained, or none could be had.';
COMMENT ON COLUMN targets.value_empty IS 'The same with every span ablated.';
COMMENT ON COLUMN targets.label IS 'grounded: the context makes it likelier and some span is shown to; diffuse: the context does, and no single span is shown to; memory: as likely without the context, and likely with neither the context nor the rest of the response; derived: as likely without the context, but only after what the response says before it; parametric: one of these two, not measured which; ungrounded: no likelier with the context, and unlikely; insufficient: not measured. Of sampled answers, likely is more often given than not. Thresholds: docs/context-attribution.md.';

CREATE TABLE masked_answers (
    run_id        VARCHAR NOT NULL,
    trace_id      VARCHAR NOT NULL,
    item_key      VARCHAR NOT NULL,
    replicate     INTEGER NOT NULL,
    unit_index    INTEGER NOT NULL,
    intervention  VARCHAR NOT NULL,
    text          VARCHAR NOT NULL,
    worth         JSON,
    answer        VARCHAR,
    reward        DOUBLE,
    grade_status  VARCHAR,
    grade_detail  VARCHAR,
    finish_reason VARCHAR NOT NULL,
    error         VARCHAR,
    n_tokens      INTEGER NOT NULL,
    cached_tokens INTEGER,
    PRIMARY KEY (run_id, trace_id, item_key, replicate),
    CHECK (replicate >= 0 AND unit_index >= 0 AND n_tokens >= 0 AND cached_tokens >= 0),
    CHECK (isfinite(reward) AND reward >= 0 AND reward <= 1),
    CHECK (grade_status IN ('graded', 'unanswered', 'ungraded')),
    CHECK (worth IS NULL OR (error IS NULL AND coalesce(grade_status, '') <> 'ungraded'))
);
COMMENT ON TABLE masked_answers IS 'One row per answer that was sampled under a mask of the context. Masks with equal prompts share answers. Failures are rows with an error.';
COMMENT ON COLUMN masked_answers.run_id IS 'The run.';
COMMENT ON COLUMN masked_answers.trace_id IS 'The trace that uses it.';
COMMENT ON COLUMN masked_answers.item_key IS 'The item it was sampled for: content hash of all that determines it.';
COMMENT ON COLUMN masked_answers.replicate IS 'Which sample of the item, from 0.';
COMMENT ON COLUMN masked_answers.unit_index IS 'Number of the mask, in the order of asking.';
COMMENT ON COLUMN masked_answers.intervention IS 'The mask, as in probes.intervention: mode:purpose:hexadecimal digits, 1 = kept.';
COMMENT ON COLUMN masked_answers.text IS 'The answer, special tokens removed; empty for a failure.';
COMMENT ON COLUMN masked_answers.worth IS 'What it counts for each target, by targets.position, in [0, 1]; NULL where it failed or could not be graded.';
COMMENT ON COLUMN masked_answers.answer IS 'Normalised answer category; unanswered is one; NULL when not graded.';
COMMENT ON COLUMN masked_answers.reward IS 'As graded, in [0, 1]; NULL when not graded.';
COMMENT ON COLUMN masked_answers.grade_status IS 'graded, unanswered, or ungraded (excluded and counted); NULL where answers are compared by similarity.';
COMMENT ON COLUMN masked_answers.grade_detail IS 'Why it is ungraded; that it was cut.';
COMMENT ON COLUMN masked_answers.finish_reason IS 'stop, length (cut at max_tokens) or error.';
COMMENT ON COLUMN masked_answers.error IS 'kind: sentence, for a failure; else NULL.';
COMMENT ON COLUMN masked_answers.n_tokens IS 'Generated tokens.';
COMMENT ON COLUMN masked_answers.cached_tokens IS 'Prefix tokens the engine took from its cache; NULL if unknown.';
