-- What context attribution adds: where spans stand in their messages, what is explained, and how
-- faithful the explanation of each run is.

COMMENT ON COLUMN units.start_char IS 'First character (code point), from 0: of the response; for kind span, of the rendered prompt.';
COMMENT ON COLUMN units.start_token IS 'First token of the unit, from 0: of the response; for kind span, of the prompt.';
COMMENT ON COLUMN units.end_token IS 'One past its last token; equal to start_token when it lies inside a token of its predecessor, or when the chat template does not show it.';
COMMENT ON TABLE units IS 'One row per piece of a trace that can be credited. Units of one kind tile what they segment; spans of a prompt leave out what is not a source.';
COMMENT ON COLUMN probes.unit_kind IS 'Kind of the unit that is probed or changed; boundary for a plain prefix; span for a mask over the spans of the context.';
COMMENT ON COLUMN probes.unit_index IS 'Its index; for a mask, its number in the order in which masks were asked.';
COMMENT ON COLUMN probes.intervention IS 'What was changed; empty for nothing. A mask over spans is mode:purpose:hexadecimal digits, the first span the highest bit of the first digit, 1 = kept; its last digit is padded with zeros.';

CREATE TABLE spans (
    run_id     VARCHAR NOT NULL,
    trace_id   VARCHAR NOT NULL,
    unit_index INTEGER NOT NULL,
    turn_index INTEGER NOT NULL,
    start_char INTEGER NOT NULL,
    end_char   INTEGER NOT NULL,
    document   INTEGER NOT NULL,
    paragraph  INTEGER NOT NULL,
    whole      BOOLEAN NOT NULL,
    PRIMARY KEY (run_id, trace_id, unit_index),
    CHECK (unit_index >= 0 AND turn_index >= 0 AND document >= 0 AND paragraph >= 0),
    CHECK (0 <= start_char AND start_char <= end_char)
);
COMMENT ON TABLE spans IS 'One row per span of a context: which message it stands in, and its group; its text and role are in units (unit_kind span).';
COMMENT ON COLUMN spans.run_id IS 'The run.';
COMMENT ON COLUMN spans.trace_id IS 'The trace.';
COMMENT ON COLUMN spans.unit_index IS 'Index of the span, as in units.';
COMMENT ON COLUMN spans.turn_index IS 'The message it stands in, as in turns.';
COMMENT ON COLUMN spans.start_char IS 'First character (code point) of that message''s content, from 0.';
COMMENT ON COLUMN spans.end_char IS 'One past the last character.';
COMMENT ON COLUMN spans.document IS 'Number of its document, from 0; in a chat, of its message.';
COMMENT ON COLUMN spans.paragraph IS 'Number of its paragraph within the document.';
COMMENT ON COLUMN spans.whole IS 'The span is the whole message, with the results of its tool calls, if it makes any.';

CREATE TABLE targets (
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
    label         VARCHAR NOT NULL,
    ablations     INTEGER NOT NULL,
    PRIMARY KEY (run_id, trace_id, target),
    CHECK (position >= 0 AND n_tokens >= 1 AND ablations >= 0),
    CHECK (kind IN ('sentence', 'range', 'response', 'action', 'given', 'contrast')),
    CHECK (isfinite(logprob_full)),
    CHECK (isfinite(logprob_empty)),
    CHECK (label IN ('grounded', 'diffuse', 'parametric', 'ungrounded', 'insufficient'))
);
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
COMMENT ON COLUMN targets.label IS 'grounded: the context makes it likelier and some span is shown to; diffuse: the context does, and no single span is shown to; parametric: as likely without the context, and likely; ungrounded: no likelier with the context, and unlikely; insufficient: not measured. Thresholds: docs/context-attribution.md.';
COMMENT ON COLUMN targets.ablations IS 'Masks behind its scores, failed ones not counted.';

CREATE TABLE faithfulness (
    run_id            VARCHAR NOT NULL,
    trace_id          VARCHAR NOT NULL,
    method            VARCHAR NOT NULL,
    target            VARCHAR NOT NULL,
    metric            VARCHAR NOT NULL,
    value             DOUBLE,
    n                 INTEGER NOT NULL,
    status            VARCHAR NOT NULL,
    estimator_version VARCHAR NOT NULL,
    PRIMARY KEY (run_id, trace_id, method, target, metric),
    CHECK (isfinite(value)),
    CHECK (n >= 0),
    CHECK (status IN ('ok', 'insufficient')),
    CHECK ((value IS NOT NULL) = (status = 'ok'))
);
COMMENT ON TABLE faithfulness IS 'One row per test of how well the scores of one method predict the model, by target and metric.';
COMMENT ON COLUMN faithfulness.run_id IS 'The run.';
COMMENT ON COLUMN faithfulness.trace_id IS 'The trace.';
COMMENT ON COLUMN faithfulness.method IS 'The method whose scores are tested.';
COMMENT ON COLUMN faithfulness.target IS 'The target, as in targets.';
COMMENT ON COLUMN faithfulness.metric IS 'lds: Spearman correlation of predicted and measured log-probabilities over fresh masks. oof_lds: the same over the masks of the fit, each left out of it in turn; biased low. top_k_drop (k a number): log-probability given the whole context minus that without the k top spans, nats; positive when they carried it. parametric: probability without the context over probability with it, at most 1.';
COMMENT ON COLUMN faithfulness.value IS 'The figure; NULL when it could not be measured.';
COMMENT ON COLUMN faithfulness.n IS 'Masks behind it.';
COMMENT ON COLUMN faithfulness.status IS 'ok or insufficient.';
COMMENT ON COLUMN faithfulness.estimator_version IS 'Version of the estimator that is tested.';
