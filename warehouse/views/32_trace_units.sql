CREATE OR REPLACE VIEW trace_units AS
WITH started AS (
    -- Failed and forced rollouts cost tokens too.
    SELECT
        run_id,
        trace_id,
        start_boundary,
        count(*) AS rollouts,
        sum(n_tokens)::BIGINT AS generated_tokens
    FROM rollouts
    GROUP BY run_id, trace_id, start_boundary
)

SELECT
    u.run_id,
    u.trace_id,
    t.name AS trace_name,
    u.unit_kind,
    u.unit_index,
    u.text,
    u.role,
    u.category,
    u.labeller,
    p.kind AS step_kind,
    p.agent,
    p.tool,
    e.version,
    s.turn_index,
    coalesce(s.start_char, u.start_char) AS start_char,
    coalesce(s.end_char, u.end_char) AS end_char,
    s.document,
    s.paragraph,
    u.end_token - u.start_token AS n_tokens,
    r.rollouts AS rollouts_started,
    r.generated_tokens
FROM units AS u
LEFT JOIN traces AS t ON u.run_id = t.run_id AND u.trace_id = t.trace_id
LEFT JOIN episodes AS e ON u.run_id = e.run_id AND u.trace_id = e.trace_id
LEFT JOIN steps AS p
    ON
        u.unit_kind = 'step'
        AND u.run_id = p.run_id
        AND u.trace_id = p.trace_id
        AND u.unit_index = p.unit_index
LEFT JOIN spans AS s
    ON
        u.unit_kind = 'span'
        AND u.run_id = s.run_id
        AND u.trace_id = s.trace_id
        AND u.unit_index = s.unit_index
LEFT JOIN started AS r
    ON
        u.unit_kind <> 'span'
        AND u.run_id = r.run_id
        AND u.trace_id = r.trace_id
        AND u.unit_index = r.start_boundary
ORDER BY u.run_id, u.trace_id, u.unit_kind, u.unit_index;

COMMENT ON VIEW trace_units IS 'One row per sentence, span or step of a trace, in order, with what sampling before it cost. Key: (run_id, trace_id, unit_kind, unit_index).';
COMMENT ON COLUMN trace_units.run_id IS 'The run.';
COMMENT ON COLUMN trace_units.trace_id IS 'The trace.';
COMMENT ON COLUMN trace_units.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN trace_units.unit_kind IS 'sentence, span or step.';
COMMENT ON COLUMN trace_units.unit_index IS 'Its place, from 0.';
COMMENT ON COLUMN trace_units.text IS 'Its text, as it is.';
COMMENT ON COLUMN trace_units.role IS 'Its known role, if any.';
COMMENT ON COLUMN trace_units.category IS 'Of a sentence, what it does: problem_setup, plan_generation, ...; unknown if no rule fits.';
COMMENT ON COLUMN trace_units.labeller IS 'What chose the category: rules, or the name of a model.';
COMMENT ON COLUMN trace_units.step_kind IS 'Of a step: llm, tool, user or system.';
COMMENT ON COLUMN trace_units.agent IS 'Who took the step.';
COMMENT ON COLUMN trace_units.tool IS 'The tool that the step called, or that answered.';
COMMENT ON COLUMN trace_units.version IS 'Version of the agent system; NULL if the logs do not say.';
COMMENT ON COLUMN trace_units.turn_index IS 'Of a span, the message it stands in; else NULL.';
COMMENT ON COLUMN trace_units.start_char IS 'First character of it, from 0: of a span in its message, else in the response.';
COMMENT ON COLUMN trace_units.end_char IS 'One past its last character.';
COMMENT ON COLUMN trace_units.document IS 'Of a span, the number of its document; else NULL.';
COMMENT ON COLUMN trace_units.paragraph IS 'Of a span, the number of its paragraph; else NULL.';
COMMENT ON COLUMN trace_units.n_tokens IS 'Its tokens; 0 where they are unknown.';
COMMENT ON COLUMN trace_units.rollouts_started IS 'Rollouts started right before it, failed and forced ones included; NULL when there are none. Traces with the same prefix share them.';
COMMENT ON COLUMN trace_units.generated_tokens IS 'Tokens they generated; NULL when there are none.';
