-- Every interval has both ends or none, contains its estimate, and a level inside (0, 1).
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
        level
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
        level
    FROM links
)

-- NaN is scores_finite's business: DuckDB orders it above every number.
SELECT *
FROM numbers
WHERE
    (lo IS NULL) <> (hi IS NULL)
    OR (isfinite(lo) AND isfinite(hi) AND lo > hi + 1e-9)
    OR (isfinite(lo) AND isfinite(value) AND lo > value + 1e-9)
    OR (isfinite(hi) AND isfinite(value) AND value > hi + 1e-9)
    OR (isfinite(level) AND (level <= 0 OR level >= 1));
