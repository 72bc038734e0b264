-- Which sentences bring about which later ones: those whose interval is farthest from 0 first.
-- param run: id or name of the run; the latest one that has any when it is not given (default none)
-- param trace: id or name of the trace; all when it is not given (default none)
-- param metric: link, or suppression_kl or attention where they were measured (default link)
-- param limit: most links to list (default 20)
WITH picked AS (
    SELECT run_id
    FROM runs
    WHERE
        CASE
            WHEN $run IS NULL THEN run_id IN (SELECT s.run_id FROM sentence_links AS s)
            ELSE CAST($run AS VARCHAR) IN (run_id, name)
        END
    ORDER BY started_at DESC
    LIMIT 1
)

SELECT
    l.trace_name,
    l.from_index,
    l.from_text,
    l.to_index,
    l.to_text,
    l.value,
    l.lo,
    l.hi,
    l.n_kept,
    l.n_replaced,
    l.p_adjusted
FROM sentence_links AS l
INNER JOIN picked ON l.run_id = picked.run_id
WHERE
    l.status = 'ok'
    AND l.metric = CAST($metric AS VARCHAR)
    AND ($trace IS NULL OR CAST($trace AS VARCHAR) IN (l.trace_id, l.trace_name))
ORDER BY greatest(coalesce(l.lo, l.value), -coalesce(l.hi, l.value)) DESC, abs(l.value) DESC, l.trace_name, l.from_index, l.to_index
LIMIT CAST($limit AS BIGINT);
