CREATE OR REPLACE VIEW named_steps AS
SELECT
    v.run_id,
    v.trace_id,
    t.name AS trace_name,
    CASE WHEN starts_with(v.method, 'rule:') THEN 'rule' ELSE 'judge' END AS kind,
    v.method,
    v.decisive_step AS step,
    v.agent,
    v.tool,
    s.kind AS step_kind,
    CASE
        WHEN v.decisive_step IS NOT NULL THEN 'named'
        WHEN v.extra ->> 'opinion' IN ('failed', 'overlong') THEN 'failed'
        ELSE 'none'
    END AS status,
    v.reason
FROM verdicts AS v
INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
LEFT JOIN steps AS s
    ON v.run_id = s.run_id AND v.trace_id = s.trace_id AND v.decisive_step = s.unit_index
WHERE v.evidence = 'judged'
ORDER BY v.run_id, kind DESC, v.method, t.name, v.trace_id;

COMMENT ON VIEW named_steps IS 'The step of each failed run that a rule or a judge names; nothing was executed, and there is no probability. One row per run and rule or judge. Key: (run_id, trace_id, method).';
COMMENT ON COLUMN named_steps.run_id IS 'The run.';
COMMENT ON COLUMN named_steps.trace_id IS 'The trace.';
COMMENT ON COLUMN named_steps.trace_name IS 'What the source calls it.';
COMMENT ON COLUMN named_steps.kind IS 'rule (reads the log, asks no model) or judge (a model''s opinion).';
COMMENT ON COLUMN named_steps.method IS 'Which rule or judge.';
COMMENT ON COLUMN named_steps.step IS 'The step it names; NULL if none.';
COMMENT ON COLUMN named_steps.agent IS 'Who took it, or whom a judge named instead of a step; NULL if unknown.';
COMMENT ON COLUMN named_steps.tool IS 'The tool it called; NULL if none.';
COMMENT ON COLUMN named_steps.step_kind IS 'llm, tool, user or system; NULL if no step is named.';
COMMENT ON COLUMN named_steps.status IS 'named, none (it answered, and names no step) or failed (a judge gave no answer).';
COMMENT ON COLUMN named_steps.reason IS 'What a judge says, or why there is no step.';
