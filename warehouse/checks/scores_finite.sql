-- No score or link holds NaN or infinity, and none that says ok lacks its value.
WITH numbers AS (
    SELECT
        run_id,
        trace_id,
        method,
        metric,
        concat_ws(' ', unit_kind, unit_index) AS unit,
        value,
        lo,
        hi,
        level,
        status
    FROM scores
    UNION ALL
    SELECT
        run_id,
        trace_id,
        method,
        metric,
        concat_ws(' ', unit_kind, from_index, to_index),
        value,
        lo,
        hi,
        level,
        status
    FROM links
)

SELECT *
FROM numbers
WHERE
    NOT isfinite(coalesce(value, 0))
    OR NOT isfinite(coalesce(lo, 0))
    OR NOT isfinite(coalesce(hi, 0))
    OR NOT isfinite(coalesce(level, 'nan'::DOUBLE))
    OR (status = 'ok' AND value IS NULL);
