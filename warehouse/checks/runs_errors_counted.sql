-- A run that says complete has no failed rollout; one with failures says complete_with_errors.
SELECT r.run_id, r.trace_id, r.item_key, r.replicate, r.error
FROM rollouts AS r
INNER JOIN runs ON r.run_id = runs.run_id
WHERE runs.status = 'complete' AND r.error IS NOT NULL;
