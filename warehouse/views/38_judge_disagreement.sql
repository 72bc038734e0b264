CREATE OR REPLACE VIEW judge_disagreement AS
SELECT
    j.run_id,
    j.trace_id,
    t.name AS trace_name,
    e.version,
    j.method AS judge,
    CASE WHEN starts_with(j.method, 'rule:') THEN 'rule' ELSE 'judge' END AS kind,
    j.decisive_step AS judged_step,
    j.agent AS judged_agent,
    j.tool AS judged_tool,
    x.method,
    x.evidence,
    x.status,
    x.decisive_step,
    x.agent,
    x.tool,
    x.posterior,
    j.decisive_step - x.decisive_step AS steps_apart,
    coalesce(
        list_contains(CAST(x.credible_set AS INTEGER []), j.decisive_step), false
    ) AS in_credible_set
FROM verdicts AS j
INNER JOIN verdicts AS x
    ON
        j.run_id = x.run_id
        AND j.trace_id = x.trace_id
        AND x.evidence IN ('executed', 'replayed')
INNER JOIN traces AS t ON j.run_id = t.run_id AND j.trace_id = t.trace_id
LEFT JOIN episodes AS e ON j.run_id = e.run_id AND j.trace_id = e.trace_id
WHERE
    j.evidence = 'judged'
    AND j.decisive_step IS DISTINCT FROM x.decisive_step
ORDER BY j.run_id, j.trace_id, j.method, x.method, x.evidence;

COMMENT ON VIEW judge_disagreement IS 'Opinions that name another step than what was executed. Key: (run_id, trace_id, judge, method, evidence).';
COMMENT ON COLUMN judge_disagreement.run_id IS 'The run.';
COMMENT ON COLUMN judge_disagreement.trace_id IS 'The trace.';
COMMENT ON COLUMN judge_disagreement.trace_name IS 'What the source calls it.';
COMMENT ON COLUMN judge_disagreement.version IS 'Version of the agent system; NULL if the logs do not say.';
COMMENT ON COLUMN judge_disagreement.judge IS 'The judge or rule.';
COMMENT ON COLUMN judge_disagreement.kind IS 'judge (a model''s opinion) or rule (asks no model).';
COMMENT ON COLUMN judge_disagreement.judged_step IS 'The step it names; NULL if none.';
COMMENT ON COLUMN judge_disagreement.judged_agent IS 'The agent it names.';
COMMENT ON COLUMN judge_disagreement.judged_tool IS 'The tool of that step; NULL if none.';
COMMENT ON COLUMN judge_disagreement.method IS 'The method that executed or replayed.';
COMMENT ON COLUMN judge_disagreement.evidence IS 'executed or replayed.';
COMMENT ON COLUMN judge_disagreement.status IS 'What that concluded.';
COMMENT ON COLUMN judge_disagreement.decisive_step IS 'The step it found; NULL if none.';
COMMENT ON COLUMN judge_disagreement.agent IS 'Who took it.';
COMMENT ON COLUMN judge_disagreement.tool IS 'The tool of that step; NULL if none.';
COMMENT ON COLUMN judge_disagreement.posterior IS 'Its probability, in [0, 1].';
COMMENT ON COLUMN judge_disagreement.steps_apart IS 'judged_step minus decisive_step; NULL unless both name one.';
COMMENT ON COLUMN judge_disagreement.in_credible_set IS 'Whether the judged step is one of those that may have decided it.';
