-- A statement that needs no context is the model's own, or follows from the rest of its response.
CREATE TABLE targets_new (
    run_id        VARCHAR NOT NULL,
    trace_id      VARCHAR NOT NULL,
    target        VARCHAR NOT NULL,
    position      INTEGER NOT NULL,
    kind          VARCHAR NOT NULL,
    text          VARCHAR NOT NULL,
    rather_than   VARCHAR,
    n_tokens      INTEGER NOT NULL,
    logprob_full  DOUBLE,
    logprob_empty DOUBLE,
    logprob_alone DOUBLE,
    label         VARCHAR NOT NULL,
    ablations     INTEGER NOT NULL,
    PRIMARY KEY (run_id, trace_id, target),
    CHECK (position >= 0 AND n_tokens >= 1 AND ablations >= 0),
    CHECK (kind IN ('sentence', 'range', 'response', 'action', 'given', 'contrast')),
    CHECK (isfinite(logprob_full)),
    CHECK (isfinite(logprob_empty)),
    CHECK (isfinite(logprob_alone)),
    CHECK (label IN ('grounded', 'diffuse', 'memory', 'derived', 'parametric', 'ungrounded', 'insufficient'))
);
INSERT INTO targets_new BY NAME SELECT * FROM targets;
DROP TABLE targets;
ALTER TABLE targets_new RENAME TO targets;
COMMENT ON TABLE targets IS 'One row per statement of a response, or other text, that a context was searched for.';
COMMENT ON COLUMN targets.run_id IS 'The run.';
COMMENT ON COLUMN targets.trace_id IS 'The trace.';
COMMENT ON COLUMN targets.target IS 'Its name, as in scores.target: sentence:3, range:10-24, response, action, given:0, contrast:0.';
COMMENT ON COLUMN targets.position IS 'Its place among the targets of the trace, from 0.';
COMMENT ON COLUMN targets.kind IS 'sentence, range, response, action, given (a text the model did not write) or contrast.';
COMMENT ON COLUMN targets.text IS 'The text; of a contrast, the first of the two.';
COMMENT ON COLUMN targets.rather_than IS 'Of a contrast, the second text; else NULL.';
COMMENT ON COLUMN targets.n_tokens IS 'Its tokens; of a contrast, of the first text.';
COMMENT ON COLUMN targets.logprob_full IS 'Log-probability given the whole context, nats; of a contrast, log p(text) - log p(rather_than). NULL when it could not be measured.';
COMMENT ON COLUMN targets.logprob_empty IS 'The same with every span ablated: what the model knows without the context.';
COMMENT ON COLUMN targets.logprob_alone IS 'Log-probability of its tokens after the first, with every span ablated and nothing of the response before it, nats; of a contrast, of all tokens. NULL when it was not needed for the label, or could not be measured.';
COMMENT ON COLUMN targets.label IS 'grounded: the context makes it likelier and some span is shown to; diffuse: the context does, and no single span is shown to; memory: as likely without the context, and likely with neither the context nor the rest of the response; derived: as likely without the context, but only after what the response says before it; parametric: one of these two, not measured which; ungrounded: no likelier with the context, and unlikely; insufficient: not measured. Thresholds: docs/context-attribution.md.';
COMMENT ON COLUMN targets.ablations IS 'Masks behind its scores, failed ones not counted.';
COMMENT ON COLUMN probes.target IS 'Name of the target text: response or continuation:N under a mask, else as in targets.target.';
COMMENT ON COLUMN probes.intervention IS 'What was changed; empty for nothing. A mask over spans is mode:purpose:hexadecimal digits, the first span the highest bit of the first digit, 1 = kept; its last digit is padded with zeros. Purpose alone: nothing of the response stands before the target.';
