CREATE OR REPLACE VIEW trace_messages AS
SELECT
    m.run_id,
    m.trace_id,
    t.name AS trace_name,
    m.turn_index,
    m.role,
    m.name,
    m.text,
    t.answer,
    t.reference,
    t.success,
    t.extra ->> 'reward_kind' AS reward_kind,
    t.model,
    t.source,
    t.n_prompt_tokens,
    t.n_response_tokens
FROM turns AS m
INNER JOIN traces AS t ON m.run_id = t.run_id AND m.trace_id = t.trace_id
ORDER BY m.run_id, m.trace_id, m.turn_index;

COMMENT ON VIEW trace_messages IS 'One row per message of a trace, in order, with how the trace ended. Key: (run_id, trace_id, turn_index).';
COMMENT ON COLUMN trace_messages.run_id IS 'The run.';
COMMENT ON COLUMN trace_messages.trace_id IS 'The trace.';
COMMENT ON COLUMN trace_messages.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN trace_messages.turn_index IS 'Its place, from 0; the last is the response.';
COMMENT ON COLUMN trace_messages.role IS 'system, user, assistant or tool.';
COMMENT ON COLUMN trace_messages.name IS 'Name of the speaker, if it has one.';
COMMENT ON COLUMN trace_messages.text IS 'Its text, as it is.';
COMMENT ON COLUMN trace_messages.answer IS 'Normalised answer of the trace; NULL if unknown.';
COMMENT ON COLUMN trace_messages.reference IS 'The right answer, if known.';
COMMENT ON COLUMN trace_messages.success IS 'Whether the trace is right; NULL if unknown.';
COMMENT ON COLUMN trace_messages.reward_kind IS 'What a reward compares answers with, as the grader names it; NULL if nothing was graded.';
COMMENT ON COLUMN trace_messages.model IS 'Who wrote the trace, if known.';
COMMENT ON COLUMN trace_messages.source IS 'Where the trace was read from.';
COMMENT ON COLUMN trace_messages.n_prompt_tokens IS 'Tokens before the response.';
COMMENT ON COLUMN trace_messages.n_response_tokens IS 'Tokens of the response.';
