-- Whom rules and judges name: how often each agent and tool, of the failed runs; an opinion or a rule of thumb, nothing was executed.
-- param run [run with named_steps]: the run; the latest that finished and has any when it is not given (default none)
-- param kind [rule | judge]: only these; both, apart, when it is not given (default none)
-- param limit [number]: most rows to list (default 20)
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
WHERE
    n.run_id = $run
    AND ($kind IS NULL OR n.kind = CAST($kind AS VARCHAR))
GROUP BY n.kind, n.method, n.status, n.agent, n.tool, n.step_kind
ORDER BY n.kind DESC, n.method, failures DESC, n.status, n.agent, n.tool, n.step_kind
LIMIT CAST($limit AS BIGINT);
