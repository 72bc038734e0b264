-- Who and what decided failures: agents and tools by expected failures, one level of evidence.
-- param run: id or name of the run; the latest audit when it is not given (default none)
-- param evidence: executed or replayed; the strongest that the run has when it is not given (default none)
-- param limit: most rows to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN study = 'audit'
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

strongest AS (
    SELECT min(e.evidence) AS evidence  -- executed comes before replayed
    FROM blame AS e
    INNER JOIN picked ON e.run_id = picked.run_id
)

SELECT
    b.evidence,
    b.method,
    b.agent,
    b.tool,
    b.kind,
    b.traces,
    b.expected_failures,
    b.share
FROM blame AS b
INNER JOIN picked ON b.run_id = picked.run_id
CROSS JOIN strongest
WHERE b.evidence = coalesce(CAST($evidence AS VARCHAR), strongest.evidence)
ORDER BY b.method, b.expected_failures DESC, b.agent, b.tool, b.kind
LIMIT CAST($limit AS BIGINT);
