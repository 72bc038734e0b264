-- Who and what decided failures: agents and tools by expected failures, one level of evidence.
-- param run: id or name of the run; the latest audit when it is not given (default none)
-- param evidence: executed, replayed or judged (default executed)
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
)

SELECT
    b.method,
    b.agent,
    b.tool,
    b.kind,
    b.traces,
    b.expected_failures,
    b.share
FROM blame AS b
INNER JOIN picked ON b.run_id = picked.run_id
WHERE b.evidence = CAST($evidence AS VARCHAR)
ORDER BY b.method, b.expected_failures DESC, b.agent, b.tool, b.kind
LIMIT CAST($limit AS BIGINT);
