-- Every row of every table has a key of its own, so loading twice doubled nothing.
SELECT 'runs' AS in_table, run_id AS key, count(*) AS copies
FROM runs
GROUP BY ALL
HAVING count(*) > 1
UNION ALL
SELECT 'sessions', concat_ws('/', run_id, session), count(*)
FROM sessions
GROUP BY run_id, session
HAVING count(*) > 1
UNION ALL
SELECT 'traces', concat_ws('/', run_id, trace_id), count(*)
FROM traces
GROUP BY run_id, trace_id
HAVING count(*) > 1
UNION ALL
SELECT 'turns', concat_ws('/', run_id, trace_id, turn_index), count(*)
FROM turns
GROUP BY run_id, trace_id, turn_index
HAVING count(*) > 1
UNION ALL
SELECT 'units', concat_ws('/', run_id, trace_id, unit_kind, unit_index), count(*)
FROM units
GROUP BY run_id, trace_id, unit_kind, unit_index
HAVING count(*) > 1
UNION ALL
SELECT 'items', concat_ws('/', run_id, trace_id, item_key), count(*)
FROM items
GROUP BY run_id, trace_id, item_key
HAVING count(*) > 1
UNION ALL
SELECT 'rollouts', concat_ws('/', run_id, trace_id, item_key, replicate), count(*)
FROM rollouts
GROUP BY run_id, trace_id, item_key, replicate
HAVING count(*) > 1
UNION ALL
SELECT 'masked_answers', concat_ws('/', run_id, trace_id, item_key, replicate), count(*)
FROM masked_answers
GROUP BY run_id, trace_id, item_key, replicate
HAVING count(*) > 1
UNION ALL
SELECT 'probes', concat_ws('/', run_id, trace_id, item_key), count(*)
FROM probes
GROUP BY run_id, trace_id, item_key
HAVING count(*) > 1
UNION ALL
SELECT
    'scores',
    concat_ws('/', run_id, trace_id, unit_kind, unit_index, method, metric, target),
    count(*)
FROM scores
GROUP BY run_id, trace_id, unit_kind, unit_index, method, metric, target
HAVING count(*) > 1
UNION ALL
SELECT
    'links',
    concat_ws('/', run_id, trace_id, unit_kind, from_index, to_index, method, metric),
    count(*)
FROM links
GROUP BY run_id, trace_id, unit_kind, from_index, to_index, method, metric
HAVING count(*) > 1
UNION ALL
SELECT 'verdicts', concat_ws('/', run_id, trace_id, method, evidence), count(*)
FROM verdicts
GROUP BY run_id, trace_id, method, evidence
HAVING count(*) > 1
UNION ALL
SELECT 'spans', concat_ws('/', run_id, trace_id, unit_index), count(*)
FROM spans
GROUP BY run_id, trace_id, unit_index
HAVING count(*) > 1
UNION ALL
SELECT 'targets', concat_ws('/', run_id, trace_id, target), count(*)
FROM targets
GROUP BY run_id, trace_id, target
HAVING count(*) > 1
UNION ALL
SELECT 'pruned', concat_ws('/', run_id, trace_id, k), count(*)
FROM pruned
GROUP BY run_id, trace_id, k
HAVING count(*) > 1
UNION ALL
SELECT 'faithfulness', concat_ws('/', run_id, trace_id, method, target, metric), count(*)
FROM faithfulness
GROUP BY run_id, trace_id, method, target, metric
HAVING count(*) > 1
UNION ALL
SELECT 'episodes', concat_ws('/', run_id, trace_id), count(*)
FROM episodes
GROUP BY run_id, trace_id
HAVING count(*) > 1
UNION ALL
SELECT 'steps', concat_ws('/', run_id, trace_id, unit_index), count(*)
FROM steps
GROUP BY run_id, trace_id, unit_index
HAVING count(*) > 1
UNION ALL
SELECT 'tool_calls', concat_ws('/', run_id, trace_id, unit_index, position), count(*)
FROM tool_calls
GROUP BY run_id, trace_id, unit_index, position
HAVING count(*) > 1
UNION ALL
SELECT 'reruns', concat_ws('/', run_id, trace_id, position), count(*)
FROM reruns
GROUP BY run_id, trace_id, position
HAVING count(*) > 1
UNION ALL
SELECT 'rejects', concat_ws('/', run_id, file, line, reason), count(*)
FROM rejects
GROUP BY run_id, file, line, reason
HAVING count(*) > 1
UNION ALL
SELECT 'readings', concat_ws('/', run_id, file, what, kind), count(*)
FROM readings
GROUP BY run_id, file, what, kind
HAVING count(*) > 1;
