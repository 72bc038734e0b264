CREATE OR REPLACE VIEW clusters AS
SELECT
    v.run_id,
    v.method,
    v.evidence,
    v.status,
    v.who,
    v.agent,
    v.tool,
    -- What is left of a reason without this run's numbers, quotations and names in capitals.
    regexp_replace(
        regexp_replace(lower(coalesce(v.reason, '')), '"[^"]*"|''[^'']*''|`[^`]*`', '…', 'g'),
        '[0-9]+', '#', 'g'
    ) AS cluster_reason,
    count(*) AS failures,
    sum(v.tokens)::BIGINT AS tokens,
    min(v.trace_id) AS example,
    min_by(t.name, v.trace_id) AS example_name,
    string_agg(DISTINCT e.version, ', ' ORDER BY e.version) AS versions
FROM verdicts AS v
LEFT JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
LEFT JOIN episodes AS e ON v.run_id = e.run_id AND v.trace_id = e.trace_id
WHERE v.evidence IN ('executed', 'replayed')
GROUP BY v.run_id, v.method, v.evidence, v.status, v.who, v.agent, v.tool, cluster_reason
ORDER BY v.run_id, v.method, v.evidence, failures DESC, v.status, v.agent, v.tool, cluster_reason;

COMMENT ON VIEW clusters IS 'Re-executed failures that are alike: same verdict, owner, agent, tool and reason. Key: (run_id, method, evidence, status, who, agent, tool, cluster_reason).';
COMMENT ON COLUMN clusters.run_id IS 'The run.';
COMMENT ON COLUMN clusters.method IS 'What concluded it.';
COMMENT ON COLUMN clusters.evidence IS 'executed or replayed.';
COMMENT ON COLUMN clusters.status IS 'localized, ambiguous, unidentifiable or nonreproducible.';
COMMENT ON COLUMN clusters.who IS 'Whose the failures are, as in verdicts.';
COMMENT ON COLUMN clusters.agent IS 'The agent of the decisive step; NULL if none is named.';
COMMENT ON COLUMN clusters.tool IS 'Its tool; NULL if none.';
COMMENT ON COLUMN clusters.cluster_reason IS 'The reason in lower case, numbers as # and quotations as an ellipsis.';
COMMENT ON COLUMN clusters.failures IS 'How many.';
COMMENT ON COLUMN clusters.tokens IS 'Tokens spent on them.';
COMMENT ON COLUMN clusters.example IS 'The trace of one of them.';
COMMENT ON COLUMN clusters.example_name IS 'What the source calls that trace.';
COMMENT ON COLUMN clusters.versions IS 'Versions of the agent system in which they were seen; NULL if the logs do not say.';
