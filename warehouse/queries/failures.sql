-- Everything a run could not do, and why: failed, ungraded and truncated rollouts and re-executions, rejected input, opinions of no use.
-- param run [run with runs]: the run; the latest that finished when it is not given (default none)
WITH failures AS (
    SELECT
        CASE
            WHEN r.error IS NOT NULL THEN 'failed'
            WHEN r.grade_status = 'ungraded' THEN 'ungraded'
            ELSE 'truncated'
        END AS kind,
        coalesce(r.error, r.grade_detail) AS reason,
        count(DISTINCT (r.item_key, r.replicate)) AS n,
        min(r.trace_id) AS example
    FROM rollouts AS r
    WHERE
        r.run_id = $run
        AND (
            r.grade_status = 'ungraded'
            OR (r.grade_status = 'unanswered' AND starts_with(r.grade_detail, 'truncated'))
        )
    GROUP BY ALL
    UNION ALL
    SELECT
        CASE
            WHEN x.error IS NULL THEN 'ungraded'
            WHEN starts_with(x.error, 'truncated') THEN 'truncated'
            ELSE 'failed'
        END,
        coalesce(x.error, 'the environment did not score it'),
        count(*),
        min(x.trace_id)
    FROM reruns AS x
    WHERE
        x.run_id = $run
        AND x.reward IS NULL
        AND NOT x.censored
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
