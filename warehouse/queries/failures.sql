-- Everything a run could not do, and why: failed and ungraded rollouts and re-executions, rejected input, opinions of no use.
-- param run [run with runs]: the run; the latest that finished when it is not given (default none)
WITH failures AS (
    SELECT
        CASE WHEN r.error IS NULL THEN 'ungraded' ELSE 'failed' END AS kind,
        coalesce(r.error, r.grade_detail) AS reason,
        count(DISTINCT (r.item_key, r.replicate)) AS n,
        min(r.trace_id) AS example
    FROM rollouts AS r
    WHERE
        r.run_id = $run
        AND r.grade_status = 'ungraded'
    GROUP BY ALL
    UNION ALL
    SELECT 'failed', x.error, count(*), min(x.trace_id)
    FROM reruns AS x
    WHERE
        x.run_id = $run
        AND x.error IS NOT NULL
    GROUP BY ALL
    UNION ALL
    SELECT
        CASE v.evidence WHEN 'judged' THEN 'no opinion' ELSE 'not executed' END,
        v.reason,
        count(*),
        min(v.trace_id)
    FROM verdicts AS v
    WHERE
        v.run_id = $run
        AND (v.extra ->> '$.opinion' <> 'ok' OR v.extra ->> '$.control.replays' = '0')
    GROUP BY ALL
    UNION ALL
    SELECT 'rejected', i.reason, i.records, concat(i.file, ':', i.first_line)
    FROM rejected_inputs AS i
    WHERE i.run_id = $run
)

SELECT kind, reason, n, example
FROM failures
ORDER BY n DESC, kind, reason;
