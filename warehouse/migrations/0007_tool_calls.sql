CREATE TABLE tool_calls (
    run_id          VARCHAR NOT NULL,
    trace_id        VARCHAR NOT NULL,
    unit_index      INTEGER NOT NULL,
    position        INTEGER NOT NULL,
    call_id         VARCHAR,
    tool            VARCHAR,
    arguments       VARCHAR,
    arguments_error VARCHAR,
    result_step     INTEGER,
    result          VARCHAR,
    error           BOOLEAN NOT NULL,
    PRIMARY KEY (run_id, trace_id, unit_index, position),
    CHECK (unit_index >= 0 AND position >= 0 AND result_step >= 0),
    CHECK (result IS NULL OR result_step IS NOT NULL)
);
COMMENT ON TABLE tool_calls IS 'One row per tool call that a model asked for, with its result; and one per result that answers no call of the log.';
COMMENT ON COLUMN tool_calls.run_id IS 'The run.';
COMMENT ON COLUMN tool_calls.trace_id IS 'The trace.';
COMMENT ON COLUMN tool_calls.unit_index IS 'Index of the step that asked, as in units; of a result without a call, its own step.';
COMMENT ON COLUMN tool_calls.position IS 'Which call of that step, from 0.';
COMMENT ON COLUMN tool_calls.call_id IS 'Id of the call in the log; NULL if it has none. Logs may repeat ids.';
COMMENT ON COLUMN tool_calls.tool IS 'The tool; NULL if the log does not say.';
COMMENT ON COLUMN tool_calls.arguments IS 'The arguments, exactly as the model wrote them; NULL if unknown.';
COMMENT ON COLUMN tool_calls.arguments_error IS 'Why the arguments are not JSON; NULL if they are.';
COMMENT ON COLUMN tool_calls.result_step IS 'Index of the step that is the result; NULL if there is none.';
COMMENT ON COLUMN tool_calls.result IS 'What the tool answered; NULL if the log has no answer, which is not an empty one.';
COMMENT ON COLUMN tool_calls.error IS 'Whether the log calls the result an error.';
