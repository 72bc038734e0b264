CREATE OR REPLACE VIEW trace_questions AS
WITH asked AS (
    -- The response is the last message; the question is what a user said last before it.
    SELECT
        m.run_id,
        m.trace_id,
        arg_max(m.text, m.turn_index) AS question
    FROM turns AS m
    WHERE m.role = 'user'
    GROUP BY m.run_id, m.trace_id
)

SELECT
    t.run_id,
    t.trace_id,
    t.name AS trace_name,
    q.question,
    coalesce(t.model, r.model) AS model,
    r.model AS measured_by,
    e.version,
    t.answer,
    t.reference,
    t.success
FROM traces AS t
INNER JOIN runs AS r ON t.run_id = r.run_id
LEFT JOIN asked AS q ON t.run_id = q.run_id AND t.trace_id = q.trace_id
LEFT JOIN episodes AS e ON t.run_id = e.run_id AND t.trace_id = e.trace_id
ORDER BY t.run_id, q.question, t.name, t.trace_id;

COMMENT ON VIEW trace_questions IS 'Traces with what was asked, so that models, versions and runs can be compared by question. One row per trace. Key: (run_id, trace_id).';
COMMENT ON COLUMN trace_questions.run_id IS 'The run.';
COMMENT ON COLUMN trace_questions.trace_id IS 'The trace.';
COMMENT ON COLUMN trace_questions.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN trace_questions.question IS 'What a user said last; NULL if no user said anything.';
COMMENT ON COLUMN trace_questions.model IS 'The model that wrote the trace, as its source says; else that of the run.';
COMMENT ON COLUMN trace_questions.measured_by IS 'The model of the run.';
COMMENT ON COLUMN trace_questions.version IS 'Version of the agent system; NULL if the logs do not say.';
COMMENT ON COLUMN trace_questions.answer IS 'Its own final answer, before normalisation; NULL if it has none.';
COMMENT ON COLUMN trace_questions.reference IS 'The right answer; NULL if unknown.';
COMMENT ON COLUMN trace_questions.success IS 'The recorded success flag; NULL if unknown.';
