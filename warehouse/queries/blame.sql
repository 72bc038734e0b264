-- Who and what decided failures: agents and tools by expected failures, one level of evidence.
-- param run [run with verdicts]: the run; the latest that finished and has any when it is not given (default none)
-- param evidence [executed | replayed | judged]: what the numbers rest on (default executed)
-- param limit [number]: most rows to list (default 20)
SELECT
    b.method,
    b.agent,
    b.tool,
    b.kind,
    b.traces,
    b.expected_failures,
    b.share
FROM blame AS b
WHERE
    b.run_id = $run
    AND b.evidence = CAST($evidence AS VARCHAR)
ORDER BY b.method, b.expected_failures DESC, b.agent, b.tool, b.kind
LIMIT CAST($limit AS BIGINT);
