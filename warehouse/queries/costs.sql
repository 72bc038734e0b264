-- What a run cost: rollouts, tokens, cache hits, seconds.
-- param run [run]: the run; all runs when it is not given (default none)
SELECT *
FROM run_costs
WHERE $run IS NULL OR run_id = $run;
