-- Whom rules and judges name: how often each agent and tool, of the failed runs; an opinion or a rule of thumb, nothing was executed.
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
-- param kind: rule or judge; both, apart, when it is not given (default none)
-- param limit: most rows to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM named_steps AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
)

SELECT
    n.kind,
    n.method,
    n.status,
    n.agent,
    n.tool,
    n.step_kind,
    count(*) AS failures,
    min(n.trace_name) AS example
FROM named_steps AS n
INNER JOIN picked ON n.run_id = picked.run_id
WHERE $kind IS NULL OR n.kind = CAST($kind AS VARCHAR)
GROUP BY n.kind, n.method, n.status, n.agent, n.tool, n.step_kind
ORDER BY n.kind DESC, n.method, failures DESC, n.status, n.agent, n.tool, n.step_kind
LIMIT CAST($limit AS BIGINT);
