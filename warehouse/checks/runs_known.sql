-- Every row of every table belongs to a run in runs, and to a trace in traces where it names one.
WITH named AS (
    SELECT 'sessions' AS in_table, run_id, NULL AS trace_id FROM sessions
    UNION
    SELECT 'rejects', run_id, NULL FROM rejects
    UNION
    SELECT 'traces', run_id, trace_id FROM traces
    UNION
    SELECT 'turns', run_id, trace_id FROM turns
    UNION
    SELECT 'units', run_id, trace_id FROM units
    UNION
    SELECT 'items', run_id, trace_id FROM items
    UNION
    SELECT 'rollouts', run_id, trace_id FROM rollouts
    UNION
    SELECT 'probes', run_id, trace_id FROM probes
    UNION
    SELECT 'masked_answers', run_id, trace_id FROM masked_answers
    UNION
    SELECT 'scores', run_id, trace_id FROM scores
    UNION
    SELECT 'spans', run_id, trace_id FROM spans
    UNION
    SELECT 'targets', run_id, trace_id FROM targets
    UNION
    SELECT 'faithfulness', run_id, trace_id FROM faithfulness
    UNION
    SELECT 'pruned', run_id, trace_id FROM pruned
    UNION
    SELECT 'links', run_id, trace_id FROM links
    UNION
    SELECT 'episodes', run_id, trace_id FROM episodes
    UNION
    SELECT 'steps', run_id, trace_id FROM steps
    UNION
    SELECT 'tool_calls', run_id, trace_id FROM tool_calls
    UNION
    SELECT 'reruns', run_id, trace_id FROM reruns
    UNION
    SELECT 'verdicts', run_id, trace_id FROM verdicts
)

SELECT n.*
FROM named AS n
LEFT JOIN runs AS r ON n.run_id = r.run_id
LEFT JOIN traces AS t ON n.run_id = t.run_id AND n.trace_id = t.trace_id
WHERE r.run_id IS NULL OR (n.trace_id IS NOT NULL AND t.trace_id IS NULL);
