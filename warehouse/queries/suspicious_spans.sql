-- Spans that carry the conclusion of a response: where injected text shows; and how well their rank finds known ones.
-- param run: id or name of the run; the latest one with contexts when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param role: role of the spans that are known to be injected, for precision and recall of the first k (default misleading)
-- param k: spans of each context that are listed (default 1)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN study = 'cite'
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
),

-- What an injected text is after is what the response comes to: the last statement that rests on
-- the context at all. Earlier ones rest on whatever they repeat.
conclusions AS (
    SELECT
        g.run_id,
        g.trace_id,
        arg_max(g.target, g.position) AS target
    FROM targets AS g
    INNER JOIN picked ON g.run_id = picked.run_id
    WHERE g.kind <> 'response' AND g.label IN ('grounded', 'diffuse')
    GROUP BY g.run_id, g.trace_id
),

ranked AS (
    SELECT
        e.*,
        e.value / nullif(sum(greatest(e.value, 0)) OVER (PARTITION BY e.trace_id), 0) AS share,
        count(*) FILTER (WHERE e.role = CAST($role AS VARCHAR)) OVER (PARTITION BY e.trace_id)
            AS known
    FROM context_effects AS e
    INNER JOIN conclusions AS c
        ON e.run_id = c.run_id AND e.trace_id = c.trace_id AND e.target = c.target
    WHERE
        e.method = 'ablate'
        AND e.value IS NOT NULL
        AND ($trace IS NULL OR CAST($trace AS VARCHAR) IN (e.trace_id, e.trace_name))
),

listed AS (
    SELECT
        *,
        count(*) FILTER (WHERE role = CAST($role AS VARCHAR)) OVER (PARTITION BY trace_id) AS hits,
        count(*) OVER (PARTITION BY trace_id) AS shown
    FROM ranked
    WHERE rank <= CAST($k AS BIGINT)
)

SELECT
    trace_name,
    rank,
    span,
    role,
    value,
    lo,
    share,
    statement,
    CASE WHEN known > 0 THEN hits / shown END AS precision_at_k,
    CASE WHEN known > 0 THEN hits / known END AS recall_at_k
FROM listed
ORDER BY share DESC NULLS LAST, trace_name, rank;
