-- What could not be measured (insufficient or failed) is NULL, never 0 or any other number.
SELECT run_id, trace_id, unit_kind, unit_index, method, metric, value, status
FROM scores
WHERE status NOT IN ('ok', 'certified') AND value IS NOT NULL
UNION ALL
SELECT run_id, trace_id, unit_kind, from_index, method, metric, value, status
FROM links
WHERE status NOT IN ('ok', 'certified') AND value IS NOT NULL;
