-- Which sentences bring about which later ones: those whose interval is farthest from 0 first. Across traces, read p_adjusted_run.
-- param run [run with sentence_links]: the run; the latest that finished and has any when it is not given (default none)
-- param trace [trace of sentence_links]: the trace; all when it is not given (default none)
-- param metric [metric of sentence_links]: link, or suppression_kl or attention where they were measured (default link)
-- param limit [number]: most links to list (default 20)
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
    l.p_adjusted,
    l.p_adjusted_run
FROM sentence_links AS l
WHERE
    l.run_id = $run
    AND l.status = 'ok'
    AND l.metric = CAST($metric AS VARCHAR)
    AND ($trace IS NULL OR l.trace_id = $trace)
ORDER BY greatest(coalesce(l.lo, l.value), -coalesce(l.hi, l.value)) DESC, abs(l.value) DESC, l.trace_name, l.from_index, l.to_index
LIMIT CAST($limit AS BIGINT);
