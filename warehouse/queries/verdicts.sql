-- What re-executions concluded: which step decided each failure, whose it was, how sure, and why. What rules and judges name is in named_steps.
-- param run [run with verdicts]: the run; the latest that finished and has any when it is not given (default none)
-- param evidence [executed | replayed]: what the conclusion rests on; the strongest that the run has when it is not given (default none)
-- param limit [number]: most verdicts to list (default 50)
WITH strongest AS (
    SELECT min(evidence) AS evidence  -- executed comes before replayed
    FROM verdicts
    WHERE run_id = $run AND evidence IN ('executed', 'replayed')
)

SELECT
    v.trace_name AS trace,
    v.version,
    v.evidence,
    v.method,
    v.status,
    v.decisive_step AS step,
    v.agent,
    v.tool,
    v.who,
    v.posterior,
    v.reason,
    v.recorded,
    v.came_instead
FROM decisions AS v
CROSS JOIN strongest
WHERE
    v.run_id = $run
    AND v.evidence = coalesce(CAST($evidence AS VARCHAR), strongest.evidence)
ORDER BY v.method, v.trace_name
LIMIT CAST($limit AS BIGINT);
