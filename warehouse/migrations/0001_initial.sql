-- The first schema. Comments say the grain, the units and the signs; `tracelab schema` prints them
-- and warehouse/README.md repeats them.
--
-- No foreign keys: a run is loaded in several short transactions, in any order, and what a foreign
-- key would refuse is found by warehouse/checks instead, without stopping the run. The constraints
-- here refuse only what could never be right. Ends of intervals get 1e-9 of slack, because
-- closed-form intervals touch their estimate at 0 and 1 and rounding may put them across it.

CREATE TABLE schema_migrations (
    version    INTEGER   NOT NULL PRIMARY KEY,
    name       VARCHAR   NOT NULL,
    sha256     VARCHAR   NOT NULL,
    applied_at TIMESTAMP NOT NULL
);
COMMENT ON TABLE schema_migrations IS 'One row per migration applied to this database.';
COMMENT ON COLUMN schema_migrations.version IS 'Its number; migrations are applied in this order, once.';
COMMENT ON COLUMN schema_migrations.name IS 'What it is called.';
COMMENT ON COLUMN schema_migrations.sha256 IS 'Hash of its text as applied; an applied migration never changes.';
COMMENT ON COLUMN schema_migrations.applied_at IS 'When, UTC.';

CREATE TABLE runs (
    run_id           VARCHAR   NOT NULL PRIMARY KEY,
    name             VARCHAR   NOT NULL,
    pipeline         VARCHAR   NOT NULL,
    engine           VARCHAR   NOT NULL,
    model            VARCHAR,
    model_revision   VARCHAR,
    dtype            VARCHAR,
    config           JSON      NOT NULL,
    config_digest    VARCHAR   NOT NULL,
    tracelab_version VARCHAR   NOT NULL,
    seed             BIGINT    NOT NULL,
    status           VARCHAR   NOT NULL,
    started_at       TIMESTAMP NOT NULL,
    finished_at      TIMESTAMP,
    versions         JSON      NOT NULL,
    CHECK (status IN ('running', 'complete', 'complete_with_errors', 'failed', 'interrupted'))
);
COMMENT ON TABLE runs IS 'One row per run: one configuration applied to one set of traces, over all the invocations that worked on it.';
COMMENT ON COLUMN runs.run_id IS 'Identifies the run; the folder runs/<run_id> holds its journal.';
COMMENT ON COLUMN runs.name IS 'What the user calls it; not unique.';
COMMENT ON COLUMN runs.pipeline IS 'The recipe: thought_anchors, ...';
COMMENT ON COLUMN runs.engine IS 'What sampled: vllm, transformers, openai or scripted.';
COMMENT ON COLUMN runs.model IS 'Name or path of the model; NULL when the run used none.';
COMMENT ON COLUMN runs.model_revision IS 'Hash of its weights, or the revision asked for.';
COMMENT ON COLUMN runs.dtype IS 'Precision it ran in.';
COMMENT ON COLUMN runs.config IS 'The resolved configuration.';
COMMENT ON COLUMN runs.config_digest IS 'Content hash of the configuration; a run never mixes two.';
COMMENT ON COLUMN runs.tracelab_version IS 'The tracelab that last worked on it.';
COMMENT ON COLUMN runs.seed IS 'The seed every sample is derived from.';
COMMENT ON COLUMN runs.status IS 'running, complete, complete_with_errors, failed or interrupted; a killed run still says running.';
COMMENT ON COLUMN runs.started_at IS 'Start of the first invocation, UTC.';
COMMENT ON COLUMN runs.finished_at IS 'End of the last invocation, UTC; NULL while running.';
COMMENT ON COLUMN runs.versions IS 'Versions of Python and of the libraries that matter.';

CREATE TABLE sessions (
    run_id           VARCHAR   NOT NULL,
    session          VARCHAR   NOT NULL,
    started_at       TIMESTAMP NOT NULL,
    seconds          DOUBLE,
    start_seconds   DOUBLE,
    prompt_tokens    BIGINT    NOT NULL,
    cached_tokens    BIGINT,
    generated_tokens BIGINT    NOT NULL,
    observations     BIGINT    NOT NULL,
    errors           BIGINT    NOT NULL,
    restarts         BIGINT    NOT NULL,
    extra            JSON      NOT NULL,
    PRIMARY KEY (run_id, session),
    CHECK (isfinite(seconds) AND seconds >= 0),
    CHECK (isfinite(start_seconds) AND start_seconds >= 0),
    CHECK (prompt_tokens >= 0 AND generated_tokens >= 0),
    CHECK (cached_tokens BETWEEN 0 AND prompt_tokens),
    CHECK (errors BETWEEN 0 AND observations),
    CHECK (restarts >= 0)
);
COMMENT ON TABLE sessions IS 'One row per invocation that worked on a run: a run resumed twice has three. An invocation that was killed may be missing, so sums are lower bounds then.';
COMMENT ON COLUMN sessions.run_id IS 'The run.';
COMMENT ON COLUMN sessions.session IS 'Identifies the invocation within the run.';
COMMENT ON COLUMN sessions.started_at IS 'When it started, UTC.';
COMMENT ON COLUMN sessions.seconds IS 'Wall time of the invocation in seconds; NULL while it runs.';
COMMENT ON COLUMN sessions.start_seconds IS 'The part of seconds that went into starting engines: processes, imports, loading the model; NULL if unknown.';
COMMENT ON COLUMN sessions.prompt_tokens IS 'Tokens of all prefixes sent to the engine, cached ones included.';
COMMENT ON COLUMN sessions.cached_tokens IS 'How many of prompt_tokens the engine took from its prefix cache; NULL if it does not tell.';
COMMENT ON COLUMN sessions.generated_tokens IS 'Tokens the engine generated.';
COMMENT ON COLUMN sessions.observations IS 'Observations received, failures included.';
COMMENT ON COLUMN sessions.errors IS 'How many of them are failures.';
COMMENT ON COLUMN sessions.restarts IS 'Workers or engines that died and were started again.';
COMMENT ON COLUMN sessions.extra IS 'Anything else the invocation knows about itself.';

CREATE TABLE traces (
    run_id            VARCHAR NOT NULL,
    trace_id          VARCHAR NOT NULL,
    name              VARCHAR NOT NULL,
    source            VARCHAR NOT NULL,
    model             VARCHAR,
    rendering         VARCHAR NOT NULL,
    answer            VARCHAR,
    reference         VARCHAR,
    success           BOOLEAN,
    n_prompt_tokens   INTEGER NOT NULL,
    n_response_tokens INTEGER NOT NULL,
    n_units           INTEGER NOT NULL,
    extra             JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id),
    CHECK (rendering IN ('chat', 'raw')),
    CHECK (n_prompt_tokens >= 0 AND n_response_tokens >= 0 AND n_units >= 0)
);
COMMENT ON TABLE traces IS 'One row per trace studied by a run: one recorded episode of a model.';
COMMENT ON COLUMN traces.run_id IS 'The run.';
COMMENT ON COLUMN traces.trace_id IS 'Content hash of the turns, the rendering and the model.';
COMMENT ON COLUMN traces.name IS 'What the source calls it: its id, or file and line.';
COMMENT ON COLUMN traces.source IS 'Where it came from.';
COMMENT ON COLUMN traces.model IS 'The model that produced it, as the source names it; NULL if unknown.';
COMMENT ON COLUMN traces.rendering IS 'How the prompt became tokens: chat (chat template) or raw.';
COMMENT ON COLUMN traces.answer IS 'Its own final answer, before normalisation; NULL if it has none.';
COMMENT ON COLUMN traces.reference IS 'The correct answer; NULL if unknown.';
COMMENT ON COLUMN traces.success IS 'The recorded success flag; NULL if unknown.';
COMMENT ON COLUMN traces.n_prompt_tokens IS 'Tokens of the rendered prompt.';
COMMENT ON COLUMN traces.n_response_tokens IS 'Tokens of the response.';
COMMENT ON COLUMN traces.n_units IS 'Rows this trace has in units.';
COMMENT ON COLUMN traces.extra IS 'Whatever else the source knows: published figures, tags, ...';

CREATE TABLE turns (
    run_id     VARCHAR NOT NULL,
    trace_id   VARCHAR NOT NULL,
    turn_index INTEGER NOT NULL,
    role       VARCHAR NOT NULL,
    name       VARCHAR,
    text       VARCHAR NOT NULL,
    PRIMARY KEY (run_id, trace_id, turn_index),
    CHECK (turn_index >= 0),
    CHECK (role IN ('system', 'user', 'assistant', 'tool'))
);
COMMENT ON TABLE turns IS 'One row per message of a trace; the last one is the response that is being explained.';
COMMENT ON COLUMN turns.run_id IS 'The run.';
COMMENT ON COLUMN turns.trace_id IS 'The trace.';
COMMENT ON COLUMN turns.turn_index IS 'Position, from 0.';
COMMENT ON COLUMN turns.role IS 'system, user, assistant or tool.';
COMMENT ON COLUMN turns.name IS 'Name of the speaker or tool, if any.';
COMMENT ON COLUMN turns.text IS 'The exact text; lone surrogates, which no database can hold, are U+FFFD.';

CREATE TABLE units (
    run_id      VARCHAR NOT NULL,
    trace_id    VARCHAR NOT NULL,
    unit_kind   VARCHAR NOT NULL,
    unit_index  INTEGER NOT NULL,
    segmenter   VARCHAR NOT NULL,
    start_char  INTEGER NOT NULL,
    end_char    INTEGER NOT NULL,
    start_token INTEGER NOT NULL,
    end_token   INTEGER NOT NULL,
    text        VARCHAR NOT NULL,
    role        VARCHAR,
    PRIMARY KEY (run_id, trace_id, unit_kind, unit_index),
    CHECK (unit_kind IN ('sentence', 'span', 'step')),
    CHECK (unit_index >= 0),
    CHECK (0 <= start_char AND start_char <= end_char),
    CHECK (0 <= start_token AND start_token <= end_token)
);
COMMENT ON TABLE units IS 'One row per piece of a trace that can be credited. Units of one kind tile what they segment.';
COMMENT ON COLUMN units.run_id IS 'The run.';
COMMENT ON COLUMN units.trace_id IS 'The trace.';
COMMENT ON COLUMN units.unit_kind IS 'sentence, span or step.';
COMMENT ON COLUMN units.unit_index IS 'Position among the units of its kind, from 0; boundary i is the place before unit i.';
COMMENT ON COLUMN units.segmenter IS 'Name and version of what cut it.';
COMMENT ON COLUMN units.start_char IS 'First character (code point) of the response, from 0.';
COMMENT ON COLUMN units.end_char IS 'One past the last character.';
COMMENT ON COLUMN units.start_token IS 'First response token of the unit, from 0.';
COMMENT ON COLUMN units.end_token IS 'One past its last token; equal to start_token when it lies inside a token of its predecessor.';
COMMENT ON COLUMN units.text IS 'Its characters, leading whitespace included.';
COMMENT ON COLUMN units.role IS 'What it is known to do (a planted role, a published tag); NULL if unknown.';

CREATE TABLE items (
    run_id         VARCHAR NOT NULL,
    trace_id       VARCHAR NOT NULL,
    item_key       VARCHAR NOT NULL,
    start_boundary INTEGER NOT NULL,
    start_token    INTEGER NOT NULL,
    replicates     INTEGER NOT NULL,
    PRIMARY KEY (run_id, trace_id, item_key),
    CHECK (start_boundary >= 0 AND start_token >= 0),
    CHECK (replicates >= 1)
);
COMMENT ON TABLE items IS 'The plan. One row per planned generation item as used by one trace; its replicates are rows of rollouts.';
COMMENT ON COLUMN items.run_id IS 'The run.';
COMMENT ON COLUMN items.trace_id IS 'The trace.';
COMMENT ON COLUMN items.item_key IS 'Content hash of everything that determines a sample.';
COMMENT ON COLUMN items.start_boundary IS 'The boundary it samples from.';
COMMENT ON COLUMN items.start_token IS 'Response tokens of the trace it is given.';
COMMENT ON COLUMN items.replicates IS 'Samples planned so far: replicates 0 .. replicates-1.';

CREATE TABLE rollouts (
    run_id         VARCHAR NOT NULL,
    trace_id       VARCHAR NOT NULL,
    item_key       VARCHAR NOT NULL,
    replicate      INTEGER NOT NULL,
    start_boundary INTEGER NOT NULL,
    start_token    INTEGER NOT NULL,
    diverge_token  INTEGER NOT NULL,
    text           VARCHAR NOT NULL,
    first_sentence VARCHAR,
    similarity     DOUBLE,
    answer         VARCHAR,
    reward         DOUBLE,
    grade_status   VARCHAR NOT NULL,
    grade_detail   VARCHAR,
    finish_reason  VARCHAR NOT NULL,
    error          VARCHAR,
    n_tokens       INTEGER NOT NULL,
    logprob        DOUBLE,
    cached_tokens  INTEGER,
    PRIMARY KEY (run_id, trace_id, item_key, replicate),
    CHECK (replicate >= 0 AND start_boundary >= 0 AND start_token >= 0),
    CHECK (diverge_token >= start_token),
    CHECK (isfinite(similarity)),
    CHECK (reward BETWEEN 0 AND 1),
    CHECK (grade_status IN ('graded', 'unanswered', 'ungraded')),
    CHECK ((reward IS NULL) = (grade_status = 'ungraded')),
    CHECK (finish_reason IN ('stop', 'length', 'error')),
    CHECK ((error IS NULL) = (finish_reason <> 'error')),
    CHECK (error IS NULL OR grade_status = 'ungraded'),
    CHECK (n_tokens >= 0 AND cached_tokens >= 0),
    CHECK (isfinite(logprob))
);
COMMENT ON TABLE rollouts IS 'One row per sampled continuation as used by one trace: traces with the same prefix share samples, so count tokens once per (item_key, replicate). Failures are rows with an error.';
COMMENT ON COLUMN rollouts.run_id IS 'The run.';
COMMENT ON COLUMN rollouts.trace_id IS 'The trace that uses it.';
COMMENT ON COLUMN rollouts.item_key IS 'The item it was sampled for.';
COMMENT ON COLUMN rollouts.replicate IS 'Which sample of the item, from 0.';
COMMENT ON COLUMN rollouts.start_boundary IS 'The boundary it was started from.';
COMMENT ON COLUMN rollouts.start_token IS 'Response tokens of the trace it was given.';
COMMENT ON COLUMN rollouts.diverge_token IS 'First response token at which it differs from the trace: it is a sample from every boundary whose token lies in [start_token, diverge_token].';
COMMENT ON COLUMN rollouts.text IS 'The generated text, special tokens removed; empty for a failure.';
COMMENT ON COLUMN rollouts.first_sentence IS 'Its first unit under the trace''s segmenter; NULL if not cut.';
COMMENT ON COLUMN rollouts.similarity IS 'Cosine similarity of first_sentence and the sentence it replaces, in [-1, 1]; NULL if not computed.';
COMMENT ON COLUMN rollouts.answer IS 'Normalised answer category; unanswered is one; NULL when ungraded.';
COMMENT ON COLUMN rollouts.reward IS 'In [0, 1], higher is better; NULL exactly when ungraded.';
COMMENT ON COLUMN rollouts.grade_status IS 'graded, unanswered, or ungraded (grading or generation failed: excluded and counted).';
COMMENT ON COLUMN rollouts.grade_detail IS 'Why it is ungraded.';
COMMENT ON COLUMN rollouts.finish_reason IS 'stop, length (cut at max_tokens) or error.';
COMMENT ON COLUMN rollouts.error IS 'kind: sentence, for a failed generation; else NULL.';
COMMENT ON COLUMN rollouts.n_tokens IS 'Generated tokens.';
COMMENT ON COLUMN rollouts.logprob IS 'Sum of the log-probabilities of the generated tokens, nats; NULL when not asked for or not finite.';
COMMENT ON COLUMN rollouts.cached_tokens IS 'Prefix tokens the engine took from its cache; NULL if unknown.';

CREATE TABLE probes (
    run_id          VARCHAR NOT NULL,
    trace_id        VARCHAR NOT NULL,
    item_key        VARCHAR NOT NULL,
    unit_kind       VARCHAR NOT NULL,
    unit_index      INTEGER NOT NULL,
    intervention    VARCHAR NOT NULL,
    target          VARCHAR NOT NULL,
    logprob         DOUBLE,
    n_target_tokens INTEGER NOT NULL,
    cached_tokens   INTEGER,
    error           VARCHAR,
    PRIMARY KEY (run_id, trace_id, item_key),
    CHECK (isfinite(logprob) AND logprob <= 1e-6),
    CHECK ((logprob IS NULL) = (error IS NOT NULL)),
    CHECK (unit_index >= 0 AND n_target_tokens >= 0 AND cached_tokens >= 0)
);
COMMENT ON TABLE probes IS 'One row per measured log-probability of a fixed target, as used by one trace.';
COMMENT ON COLUMN probes.run_id IS 'The run.';
COMMENT ON COLUMN probes.trace_id IS 'The trace that uses it.';
COMMENT ON COLUMN probes.item_key IS 'Content hash of everything that determines it.';
COMMENT ON COLUMN probes.unit_kind IS 'Kind of the unit that is probed or changed; boundary for a plain prefix.';
COMMENT ON COLUMN probes.unit_index IS 'Its index.';
COMMENT ON COLUMN probes.intervention IS 'What was changed; empty for nothing.';
COMMENT ON COLUMN probes.target IS 'Name of the target text.';
COMMENT ON COLUMN probes.logprob IS 'Sum of the log-probabilities of the target tokens, nats; NULL exactly when it failed.';
COMMENT ON COLUMN probes.n_target_tokens IS 'Tokens of the target.';
COMMENT ON COLUMN probes.cached_tokens IS 'Prefix tokens the engine took from its cache; NULL if unknown.';
COMMENT ON COLUMN probes.error IS 'kind: sentence, for a failure; else NULL.';

CREATE TABLE scores (
    run_id            VARCHAR NOT NULL,
    trace_id          VARCHAR NOT NULL,
    unit_kind         VARCHAR NOT NULL,
    unit_index        INTEGER NOT NULL,
    method            VARCHAR NOT NULL,
    metric            VARCHAR NOT NULL,
    target            VARCHAR NOT NULL,
    value             DOUBLE,
    lo                DOUBLE,
    hi                DOUBLE,
    level             DOUBLE  NOT NULL,
    n                 BIGINT  NOT NULL,
    status            VARCHAR NOT NULL,
    evidence          VARCHAR NOT NULL,
    estimator_version VARCHAR NOT NULL,
    extra             JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id, unit_kind, unit_index, method, metric, target),
    CHECK (unit_kind IN ('sentence', 'span', 'step', 'boundary')),
    CHECK (unit_index >= 0),
    CHECK (isfinite(value)),
    CHECK (isfinite(lo)),
    CHECK (isfinite(hi)),
    CHECK (lo <= hi + 1e-9),
    CHECK (lo <= value + 1e-9),
    CHECK (value <= hi + 1e-9),
    CHECK (level > 0 AND level < 1),
    CHECK (n >= 0),
    CHECK (status IN ('ok', 'insufficient', 'certified', 'failed')),
    CHECK (value IS NULL OR status IN ('ok', 'certified')),
    CHECK (value IS NOT NULL OR status <> 'ok'),
    CHECK (evidence IN ('executed', 'replayed', 'scored', 'judged'))
);
COMMENT ON TABLE scores IS 'One row per number about one unit of one trace, by method, metric and target.';
COMMENT ON COLUMN scores.run_id IS 'The run.';
COMMENT ON COLUMN scores.trace_id IS 'The trace.';
COMMENT ON COLUMN scores.unit_kind IS 'sentence, span or step; boundary for points of the value curve.';
COMMENT ON COLUMN scores.unit_index IS 'Index of the unit, or boundary 0 .. N.';
COMMENT ON COLUMN scores.method IS 'resample, ...';
COMMENT ON COLUMN scores.metric IS 'value: expected reward from a boundary. delta_value: value after the unit minus value before it, positive when the unit raised it. tv, js: distance of the answer distributions before and after, from 0.';
COMMENT ON COLUMN scores.target IS 'What it is about where a method has several targets; else empty.';
COMMENT ON COLUMN scores.value IS 'Point estimate, in the unit of the metric; NULL when it could not be measured, never 0 instead.';
COMMENT ON COLUMN scores.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN scores.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN scores.level IS 'Nominal coverage of [lo, hi], in (0, 1).';
COMMENT ON COLUMN scores.n IS 'Graded rollouts, or probes, behind it.';
COMMENT ON COLUMN scores.status IS 'ok, insufficient (too few observations), certified (bounded without sampling) or failed.';
COMMENT ON COLUMN scores.evidence IS 'executed, replayed, scored (probe only) or judged (a model''s opinion); never mixed in one ranking.';
COMMENT ON COLUMN scores.estimator_version IS 'Version of the estimator; figures of different versions are not comparable.';
COMMENT ON COLUMN scores.extra IS 'Whatever else the method reports.';

CREATE TABLE links (
    run_id            VARCHAR NOT NULL,
    trace_id          VARCHAR NOT NULL,
    unit_kind         VARCHAR NOT NULL,
    from_index        INTEGER NOT NULL,
    to_index          INTEGER NOT NULL,
    method            VARCHAR NOT NULL,
    metric            VARCHAR NOT NULL,
    value             DOUBLE,
    lo                DOUBLE,
    hi                DOUBLE,
    level             DOUBLE  NOT NULL,
    n                 BIGINT  NOT NULL,
    status            VARCHAR NOT NULL,
    evidence          VARCHAR NOT NULL,
    estimator_version VARCHAR NOT NULL,
    extra             JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id, unit_kind, from_index, to_index, method, metric),
    CHECK (0 <= from_index AND from_index < to_index),
    CHECK (isfinite(value)),
    CHECK (isfinite(lo)),
    CHECK (isfinite(hi)),
    CHECK (lo <= hi + 1e-9),
    CHECK (lo <= value + 1e-9),
    CHECK (value <= hi + 1e-9),
    CHECK (level > 0 AND level < 1),
    CHECK (n >= 0),
    CHECK (status IN ('ok', 'insufficient', 'certified', 'failed')),
    CHECK (value IS NULL OR status IN ('ok', 'certified')),
    CHECK (value IS NOT NULL OR status <> 'ok'),
    CHECK (evidence IN ('executed', 'replayed', 'scored', 'judged'))
);
COMMENT ON TABLE links IS 'One row per influence of one unit on a later one of the same trace.';
COMMENT ON COLUMN links.run_id IS 'The run.';
COMMENT ON COLUMN links.trace_id IS 'The trace.';
COMMENT ON COLUMN links.unit_kind IS 'Kind of both units.';
COMMENT ON COLUMN links.from_index IS 'The unit that is changed.';
COMMENT ON COLUMN links.to_index IS 'The later unit that is watched.';
COMMENT ON COLUMN links.method IS 'What measured it.';
COMMENT ON COLUMN links.metric IS 'What was measured; positive when the earlier unit makes the later one more likely.';
COMMENT ON COLUMN links.value IS 'Point estimate; NULL when it could not be measured.';
COMMENT ON COLUMN links.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN links.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN links.level IS 'Nominal coverage of [lo, hi], in (0, 1).';
COMMENT ON COLUMN links.n IS 'Rollouts or probes behind it.';
COMMENT ON COLUMN links.status IS 'ok, insufficient, certified or failed.';
COMMENT ON COLUMN links.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN links.estimator_version IS 'Version of the estimator.';
COMMENT ON COLUMN links.extra IS 'Whatever else the method reports.';

CREATE TABLE verdicts (
    run_id           VARCHAR NOT NULL,
    trace_id         VARCHAR NOT NULL,
    method           VARCHAR NOT NULL,
    evidence         VARCHAR NOT NULL,
    status           VARCHAR NOT NULL,
    decisive_step    INTEGER,
    agent            VARCHAR,
    posterior        DOUBLE,
    credible_set     JSON    NOT NULL,
    runner_up        INTEGER,
    correctable_step INTEGER,
    counterfactual   VARCHAR,
    tokens           BIGINT  NOT NULL,
    extra            JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id, method, evidence),
    CHECK (evidence IN ('executed', 'replayed', 'scored', 'judged')),
    CHECK (status IN ('localized', 'ambiguous', 'unidentifiable', 'nonreproducible')),
    CHECK (decisive_step >= 0 AND runner_up >= 0 AND correctable_step >= 0),
    CHECK (posterior BETWEEN 0 AND 1),
    CHECK (tokens >= 0)
);
COMMENT ON TABLE verdicts IS 'One row per conclusion of an audit about one trace, by method and level of evidence.';
COMMENT ON COLUMN verdicts.run_id IS 'The run.';
COMMENT ON COLUMN verdicts.trace_id IS 'The trace.';
COMMENT ON COLUMN verdicts.method IS 'What concluded it.';
COMMENT ON COLUMN verdicts.evidence IS 'executed, replayed, scored or judged; never mixed in one ranking.';
COMMENT ON COLUMN verdicts.status IS 'localized, ambiguous, unidentifiable or nonreproducible.';
COMMENT ON COLUMN verdicts.decisive_step IS 'Index of the step that decided the failure; NULL unless one is named.';
COMMENT ON COLUMN verdicts.agent IS 'The agent that took it.';
COMMENT ON COLUMN verdicts.posterior IS 'Probability of decisive_step, in [0, 1].';
COMMENT ON COLUMN verdicts.credible_set IS 'JSON list of the steps that hold 90 % of the posterior.';
COMMENT ON COLUMN verdicts.runner_up IS 'The second most probable step.';
COMMENT ON COLUMN verdicts.correctable_step IS 'Earliest step whose correction restores success; NULL if none was found.';
COMMENT ON COLUMN verdicts.counterfactual IS 'The correction that did.';
COMMENT ON COLUMN verdicts.tokens IS 'Tokens spent on it, prompt and generated.';
COMMENT ON COLUMN verdicts.extra IS 'Whatever else the method reports.';

CREATE TABLE rejects (
    run_id  VARCHAR NOT NULL,
    file    VARCHAR NOT NULL,
    line    BIGINT  NOT NULL,
    reason  VARCHAR NOT NULL,
    excerpt VARCHAR NOT NULL,
    PRIMARY KEY (run_id, file, line, reason),
    CHECK (line >= 0)
);
COMMENT ON TABLE rejects IS 'One row per input record that could not be used and why; the rest of the file was used.';
COMMENT ON COLUMN rejects.run_id IS 'The run that read it.';
COMMENT ON COLUMN rejects.file IS 'The input file as it was named.';
COMMENT ON COLUMN rejects.line IS 'Line of the file, from 1; 0 when the reason is about the whole file.';
COMMENT ON COLUMN rejects.reason IS 'One sentence for a person.';
COMMENT ON COLUMN rejects.excerpt IS 'The beginning of the record.';
