-- Who and what decided failures: agents and tools by expected failures, one level of evidence.
-- param run [run with verdicts]: the run; the latest that finished and has any when it is not given (default none)
-- param evidence [executed | replayed]: what the numbers rest on; the strongest that the run has when it is not given (default none)
-- param limit [number]: most rows to list (default 20)
WITH strongest AS (
    SELECT min(evidence) AS evidence  -- executed comes before replayed
    FROM blame
    WHERE run_id = $run
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
CROSS JOIN strongest
WHERE
    b.run_id = $run
    AND b.evidence = coalesce(CAST($evidence AS VARCHAR), strongest.evidence)
ORDER BY b.method, b.expected_failures DESC, b.agent, b.tool, b.kind
LIMIT CAST($limit AS BIGINT);
