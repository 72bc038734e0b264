CREATE OR REPLACE VIEW blame_by_version AS
WITH audited AS (
    SELECT v.run_id, v.method, v.evidence, e.version, count(*) AS verdicts
    FROM verdicts AS v
    INNER JOIN episodes AS e ON v.run_id = e.run_id AND v.trace_id = e.trace_id
    GROUP BY v.run_id, v.method, v.evidence, e.version
),

blamed AS (
    SELECT
        s.run_id,
        s.method,
        s.evidence,
        e.version,
        t.agent,
        t.tool,
        sum(s.value) AS expected_failures
    FROM scores AS s
    INNER JOIN steps AS t
        ON s.run_id = t.run_id AND s.trace_id = t.trace_id AND s.unit_index = t.unit_index
    INNER JOIN episodes AS e ON s.run_id = e.run_id AND s.trace_id = e.trace_id
    WHERE s.unit_kind = 'step' AND s.metric = 'p_decisive' AND s.status = 'ok'
    GROUP BY s.run_id, s.method, s.evidence, e.version, t.agent, t.tool
)

SELECT
    b.run_id,
    replace(b.method, '-pooled', '') AS method,
    b.evidence,
    b.version,
    b.agent,
    b.tool,
    b.expected_failures,
    a.verdicts,
    b.expected_failures / a.verdicts AS failures_per_audit
FROM blamed AS b
INNER JOIN audited AS a
    ON
        b.run_id = a.run_id
        AND replace(b.method, '-pooled', '') = a.method
        AND b.evidence = a.evidence
        AND b.version IS NOT DISTINCT FROM a.version
ORDER BY b.run_id, method, b.evidence, b.version, b.expected_failures DESC, b.agent, b.tool;

COMMENT ON VIEW blame_by_version IS 'Expected failures by agent, tool and version of the agent system. Key: (run_id, method, evidence, version, agent, tool).';
COMMENT ON COLUMN blame_by_version.run_id IS 'The run.';
COMMENT ON COLUMN blame_by_version.method IS 'What estimated it.';
COMMENT ON COLUMN blame_by_version.evidence IS 'executed or replayed.';
COMMENT ON COLUMN blame_by_version.version IS 'Version of the agent system; NULL if the logs do not say.';
COMMENT ON COLUMN blame_by_version.agent IS 'The agent; NULL if unknown.';
COMMENT ON COLUMN blame_by_version.tool IS 'The tool that the steps called; NULL if none.';
COMMENT ON COLUMN blame_by_version.expected_failures IS 'Sum of the probabilities that a step of the agent that called the tool decided a failure.';
COMMENT ON COLUMN blame_by_version.verdicts IS 'Audited failures of the version.';
COMMENT ON COLUMN blame_by_version.failures_per_audit IS 'expected_failures over verdicts, in [0, 1].';
