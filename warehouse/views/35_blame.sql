CREATE OR REPLACE VIEW blame AS
SELECT
    s.run_id,
    s.method,
    s.evidence,
    t.agent,
    t.tool,
    t.kind,
    count(DISTINCT s.trace_id) FILTER (WHERE s.value > 0) AS traces,
    sum(s.value) AS expected_failures,
    sum(s.value) / sum(sum(s.value)) OVER (PARTITION BY s.run_id, s.method, s.evidence) AS share
FROM scores AS s
INNER JOIN steps AS t
    ON s.run_id = t.run_id AND s.trace_id = t.trace_id AND s.unit_index = t.unit_index
WHERE s.unit_kind = 'step' AND s.metric = 'p_decisive' AND s.status = 'ok'
GROUP BY s.run_id, s.method, s.evidence, t.agent, t.tool, t.kind
ORDER BY s.run_id, s.method, s.evidence, expected_failures DESC, t.agent, t.tool, t.kind;

COMMENT ON VIEW blame IS 'Who and what decided failures, weighted by probability, of runs that were re-executed; never across levels of evidence. Failures that no step explains, and steps that were not measured, are in no row. Rules and judges have no probabilities: see named_steps. Key: (run_id, method, evidence, agent, tool, kind).';
COMMENT ON COLUMN blame.run_id IS 'The run.';
COMMENT ON COLUMN blame.method IS 'What estimated it.';
COMMENT ON COLUMN blame.evidence IS 'executed or replayed.';
COMMENT ON COLUMN blame.agent IS 'The agent that took the steps; NULL if unknown.';
COMMENT ON COLUMN blame.tool IS 'The tool that the steps called; NULL if none.';
COMMENT ON COLUMN blame.kind IS 'llm, tool, user or system.';
COMMENT ON COLUMN blame.traces IS 'Runs with a step of this kind that may have decided them.';
COMMENT ON COLUMN blame.expected_failures IS 'Sum of the probabilities that such a step decided a failure.';
COMMENT ON COLUMN blame.share IS 'Share of the expected failures of the run and method, in [0, 1].';
