-- What audits concluded: which step decided each failure, whose it was, how sure, and why.
-- param run [run with verdicts]: the run; the latest that finished and has any when it is not given (default none)
-- param evidence [executed | replayed | judged]: what the conclusion rests on; all when it is not given (default none)
-- param limit [number]: most verdicts to list (default 50)
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
WHERE
    v.run_id = $run
    AND ($evidence IS NULL OR v.evidence = CAST($evidence AS VARCHAR))
ORDER BY
    list_position(['executed', 'replayed', 'scored', 'judged'], v.evidence), v.method, v.trace_name
LIMIT CAST($limit AS BIGINT);
