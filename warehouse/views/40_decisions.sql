CREATE OR REPLACE VIEW decisions AS
SELECT
    v.run_id,
    v.trace_id,
    t.name AS trace_name,
    e.task_id,
    e.version,
    v.method,
    v.evidence,
    v.status,
    v.decisive_step,
    v.agent,
    v.tool,
    u.text AS step,
    v.who,
    v.posterior,
    v.runner_up,
    v.correctable_step,
    v.counterfactual,
    v.reason,
    v.recorded,
    v.came_instead,
    e.label_step,
    e.label_agent
FROM verdicts AS v
INNER JOIN traces AS t ON v.run_id = t.run_id AND v.trace_id = t.trace_id
LEFT JOIN episodes AS e ON v.run_id = e.run_id AND v.trace_id = e.trace_id
LEFT JOIN units AS u
    ON
        v.run_id = u.run_id
        AND v.trace_id = u.trace_id
        AND u.unit_kind = 'step'
        AND v.decisive_step = u.unit_index
ORDER BY
    v.run_id,
    list_position(['executed', 'replayed', 'scored', 'judged'], v.evidence),
    v.method,
    v.posterior DESC NULLS LAST,
    t.name;

COMMENT ON VIEW decisions IS 'What audits concluded, with the step that they name and where it was taken. One row per verdict; never rank different levels of evidence together. Key: (run_id, trace_id, method, evidence).';
COMMENT ON COLUMN decisions.run_id IS 'The run.';
COMMENT ON COLUMN decisions.trace_id IS 'The trace.';
COMMENT ON COLUMN decisions.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN decisions.task_id IS 'The task that the agents had; NULL if the logs do not say.';
COMMENT ON COLUMN decisions.version IS 'Version of the agent system; NULL if the logs do not say.';
COMMENT ON COLUMN decisions.method IS 'What concluded it.';
COMMENT ON COLUMN decisions.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN decisions.status IS 'localized, ambiguous, unidentifiable or nonreproducible.';
COMMENT ON COLUMN decisions.decisive_step IS 'The step that decided the failure; NULL if none is named.';
COMMENT ON COLUMN decisions.agent IS 'Who took it.';
COMMENT ON COLUMN decisions.tool IS 'The tool that it called, or whose reply was not reproduced; NULL if none.';
COMMENT ON COLUMN decisions.step IS 'Its text.';
COMMENT ON COLUMN decisions.who IS 'Whose the failure is, as in verdicts.';
COMMENT ON COLUMN decisions.posterior IS 'Probability of the step, in [0, 1]; NULL for opinions.';
COMMENT ON COLUMN decisions.runner_up IS 'The second most probable step.';
COMMENT ON COLUMN decisions.correctable_step IS 'Earliest step whose correction restores success; NULL if none was found.';
COMMENT ON COLUMN decisions.counterfactual IS 'What was written there instead.';
COMMENT ON COLUMN decisions.reason IS 'Why this verdict, one sentence.';
COMMENT ON COLUMN decisions.recorded IS 'Of a nonreproducible run: the recorded reply (or score) that did not come again; NULL for other verdicts, and where nothing could be executed.';
COMMENT ON COLUMN decisions.came_instead IS 'Of a nonreproducible run: what came instead of it, or why nothing could be executed; NULL for other verdicts.';
COMMENT ON COLUMN decisions.label_step IS 'The step that the logs say decided it; NULL if they say nothing.';
COMMENT ON COLUMN decisions.label_agent IS 'The agent that they name.';
