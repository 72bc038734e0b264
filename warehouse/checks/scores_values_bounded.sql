-- Points of a value curve and their intervals lie in [0, 1]; changes of value lie in [-1, 1].
SELECT run_id, trace_id, unit_kind, unit_index, method, metric, value, lo, hi
FROM scores
WHERE
    isfinite(coalesce(value, 0))
    AND isfinite(coalesce(lo, 0))
    AND isfinite(coalesce(hi, 0))
    AND (
        (
            unit_kind = 'boundary'
            AND metric = 'value'
            AND (least(value, lo) < -1e-9 OR greatest(value, hi) > 1 + 1e-9)
        )
        OR (
            metric = 'delta_value'
            AND (least(value, lo) < -1 - 1e-9 OR greatest(value, hi) > 1 + 1e-9)
        )
    );
