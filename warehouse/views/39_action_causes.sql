CREATE OR REPLACE VIEW action_causes AS
WITH step_units AS (
    SELECT run_id, trace_id, unit_index, start_char, end_char
    FROM units
    WHERE unit_kind = 'step'
),

placed AS (
    SELECT p.run_id, p.trace_id, p.unit_index, max(u.unit_index) AS step
    FROM spans AS p
    INNER JOIN step_units AS u
        ON
            p.run_id = u.run_id
            AND p.trace_id = u.trace_id
            AND p.turn_index = 1
            AND p.start_char >= u.start_char
            AND p.end_char <= u.end_char
    GROUP BY p.run_id, p.trace_id, p.unit_index
)

SELECT
    e.run_id,
    e.trace_id,
    e.trace_name,
    v.status,
    v.decisive_step,
    v.posterior,
    e.target,
    e.rank,
    e.unit_index,
    e.span,
    CASE s.kind WHEN 'llm' THEN 'assistant' ELSE s.kind END AS role,
    e.document AS message,
    w.step,
    s.agent,
    s.tool,
    e.value,
    e.lo,
    e.hi,
    e.level,
    e.n
FROM context_effects AS e
INNER JOIN verdicts AS v
    ON
        e.run_id = v.run_id
        AND e.trace_id = v.trace_id
        AND v.evidence IN ('executed', 'replayed')
LEFT JOIN placed AS w
    ON e.run_id = w.run_id AND e.trace_id = w.trace_id AND e.unit_index = w.unit_index
LEFT JOIN steps AS s
    ON w.run_id = s.run_id AND w.trace_id = s.trace_id AND w.step = s.unit_index
WHERE e.method = 'ablate'
ORDER BY e.run_id, e.trace_id, e.target, e.rank NULLS LAST, e.unit_index;

COMMENT ON VIEW action_causes IS 'What made a model take the bad action: effects of the pieces of its input, with the step, agent and tool that each piece came from. One row per audited run, target and piece. Key: (run_id, trace_id, target, unit_index).';
COMMENT ON COLUMN action_causes.run_id IS 'The run.';
COMMENT ON COLUMN action_causes.trace_id IS 'The trace.';
COMMENT ON COLUMN action_causes.trace_name IS 'What the source calls it.';
COMMENT ON COLUMN action_causes.status IS 'What the audit concluded.';
COMMENT ON COLUMN action_causes.decisive_step IS 'The step it found, whose action is explained; where it found none, the most suspicious one is.';
COMMENT ON COLUMN action_causes.posterior IS 'Its probability, in [0, 1].';
COMMENT ON COLUMN action_causes.target IS 'action:STEP, the recorded action; contrast:STEP, the recorded action rather than the correction.';
COMMENT ON COLUMN action_causes.rank IS '1 for the piece that made the target likelier than any other did.';
COMMENT ON COLUMN action_causes.unit_index IS 'Index of the piece, from 0.';
COMMENT ON COLUMN action_causes.span IS 'Its text.';
COMMENT ON COLUMN action_causes.role IS 'Role of its message: system, user, assistant or tool; NULL when the message is no step.';
COMMENT ON COLUMN action_causes.message IS 'Number of its message in the input, from 0.';
COMMENT ON COLUMN action_causes.step IS 'The step that the message is; NULL when it is none (the task, or a prompt that is only in inputs).';
COMMENT ON COLUMN action_causes.agent IS 'Who took that step.';
COMMENT ON COLUMN action_causes.tool IS 'The tool that answered, or was called, there.';
COMMENT ON COLUMN action_causes.value IS 'Effect of keeping the piece on the target, nats; positive when it made the bad action likelier.';
COMMENT ON COLUMN action_causes.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN action_causes.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN action_causes.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN action_causes.n IS 'Ablations behind it.';
