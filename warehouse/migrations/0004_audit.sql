-- What failure audits add: who took which step, re-executions, and whose a failure is.

COMMENT ON COLUMN scores.metric IS 'value: expected reward from a boundary. delta_value: value after the unit minus value before it, positive when the unit raised it. tv, js: distance of the answer distributions before and after, from 0. p_decisive: probability that the step decided the failure.';
COMMENT ON COLUMN verdicts.counterfactual IS 'What was written there instead.';
COMMENT ON COLUMN verdicts.extra IS 'Whatever else the method reports: the control, the size of the fall, argmax_rescue (the step that the naive rule would name).';

ALTER TABLE verdicts ADD COLUMN tool VARCHAR;
ALTER TABLE verdicts ADD COLUMN who VARCHAR;
ALTER TABLE verdicts ADD COLUMN reason VARCHAR;
ALTER TABLE verdicts ADD COLUMN rollouts BIGINT;
COMMENT ON COLUMN verdicts.tool IS 'The tool that the decisive step called, or whose reply was not reproduced; NULL if none.';
COMMENT ON COLUMN verdicts.who IS 'Whose the failure is: agent, environment (it did not answer alike twice), harness (the limit of turns), task (nothing that was done changed the chance of success) or unknown.';
COMMENT ON COLUMN verdicts.reason IS 'Why this verdict, one sentence.';
COMMENT ON COLUMN verdicts.rollouts IS 'Re-executions it rests on.';

CREATE TABLE episodes (
    run_id       VARCHAR NOT NULL,
    trace_id     VARCHAR NOT NULL,
    format       VARCHAR NOT NULL,
    task_id      VARCHAR,
    version      VARCHAR,
    n_steps      INTEGER NOT NULL,
    label_step   INTEGER,
    label_agent  VARCHAR,
    label_reason VARCHAR,
    PRIMARY KEY (run_id, trace_id),
    CHECK (n_steps >= 0 AND label_step >= 0)
);
COMMENT ON TABLE episodes IS 'One row per recorded run of agents; its text is in turns, its steps in units (unit_kind step) and steps.';
COMMENT ON COLUMN episodes.run_id IS 'The run that audited it.';
COMMENT ON COLUMN episodes.trace_id IS 'The trace.';
COMMENT ON COLUMN episodes.format IS 'The importer that read it.';
COMMENT ON COLUMN episodes.task_id IS 'Task of a benchmark; NULL if unknown.';
COMMENT ON COLUMN episodes.version IS 'Version of the agent system; NULL if unknown.';
COMMENT ON COLUMN episodes.n_steps IS 'Its steps.';
COMMENT ON COLUMN episodes.label_step IS 'Decisive step as annotated or planted; NULL if there is none.';
COMMENT ON COLUMN episodes.label_agent IS 'Responsible agent, likewise.';
COMMENT ON COLUMN episodes.label_reason IS 'Why, likewise; for the testbed the planted cause.';

CREATE TABLE steps (
    run_id     VARCHAR NOT NULL,
    trace_id   VARCHAR NOT NULL,
    unit_index INTEGER NOT NULL,
    kind       VARCHAR NOT NULL,
    agent      VARCHAR,
    tool       VARCHAR,
    parent     INTEGER,
    flags      JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id, unit_index),
    CHECK (unit_index >= 0 AND parent >= 0),
    CHECK (kind IN ('llm', 'tool', 'user', 'system'))
);
COMMENT ON TABLE steps IS 'One row per step of an episode: who did it, with what; its text is in units (unit_kind step).';
COMMENT ON COLUMN steps.run_id IS 'The run.';
COMMENT ON COLUMN steps.trace_id IS 'The trace.';
COMMENT ON COLUMN steps.unit_index IS 'Index of the step, as in units.';
COMMENT ON COLUMN steps.kind IS 'llm (a model wrote it), tool (a tool answered), user or system.';
COMMENT ON COLUMN steps.agent IS 'Who took it; NULL if the log does not say.';
COMMENT ON COLUMN steps.tool IS 'The tool that answered or, for a model''s step, that it calls first; NULL if none.';
COMMENT ON COLUMN steps.parent IS 'The step that led to it; NULL if unknown.';
COMMENT ON COLUMN steps.flags IS 'JSON list of what was wrong or special: missing_result, invalid_arguments, ...';

CREATE TABLE reruns (
    run_id     VARCHAR NOT NULL,
    trace_id   VARCHAR NOT NULL,
    position   INTEGER NOT NULL,
    start_step INTEGER NOT NULL,
    left_step  INTEGER,
    reward     DOUBLE,
    censored   BOOLEAN NOT NULL,
    forced     BOOLEAN NOT NULL,
    error      VARCHAR,
    tokens     BIGINT  NOT NULL,
    actions    JSON    NOT NULL,
    PRIMARY KEY (run_id, trace_id, position),
    CHECK (position >= 0 AND start_step >= 0 AND left_step >= 0 AND tokens >= 0),
    CHECK (reward BETWEEN 0 AND 1),
    CHECK (error IS NULL OR reward IS NULL),
    CHECK (NOT censored OR reward IS NULL)
);
COMMENT ON TABLE reruns IS 'One row per re-execution of a recorded run, from before one of its steps to the end.';
COMMENT ON COLUMN reruns.run_id IS 'The run.';
COMMENT ON COLUMN reruns.trace_id IS 'The trace.';
COMMENT ON COLUMN reruns.position IS 'Its number among those of the trace, from 0.';
COMMENT ON COLUMN reruns.start_step IS 'The step before which it began.';
COMMENT ON COLUMN reruns.left_step IS 'The first step that it took differently, or the reply to which was another; NULL if there is none.';
COMMENT ON COLUMN reruns.reward IS 'What it scored, in [0, 1]; NULL when it failed, was censored or could not be graded.';
COMMENT ON COLUMN reruns.censored IS 'A replay had no recorded answer to one of its calls.';
COMMENT ON COLUMN reruns.forced IS 'It began with a given correction; not a sample of the value before start_step.';
COMMENT ON COLUMN reruns.error IS 'Why it failed; NULL if it did not.';
COMMENT ON COLUMN reruns.tokens IS 'Prompt and generated tokens it took.';
COMMENT ON COLUMN reruns.actions IS 'JSON list of what the model wrote from start_step on.';
