-- What a run cost: rollouts, tokens, cache hits, seconds.
-- param run: id or name of the run; all runs when it is not given (default none)
SELECT *
FROM run_costs
WHERE $run IS NULL OR CAST($run AS VARCHAR) IN (run_id, name);
