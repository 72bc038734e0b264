-- Spans that carry the conclusion of a response: where injected text shows; and how well their rank finds known ones.
-- param run [run with grounding]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of grounding]: the trace; all when it is not given (default none)
-- param role [role of units]: role of the spans that are known to be injected, for precision and recall of the first k (default misleading)
-- param k [number]: spans of each context that are listed (default 1)

-- What an injected text is after is what the response comes to: the last statement that rests on
-- the context at all. Earlier ones rest on whatever they repeat.
WITH conclusions AS (
    SELECT
        g.run_id,
        g.trace_id,
        arg_max(g.target, g.position) AS target
    FROM targets AS g
    WHERE
        g.run_id = $run
        AND g.kind <> 'response' AND g.label IN ('grounded', 'diffuse')
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
        AND ($trace IS NULL OR e.trace_id = $trace)
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
