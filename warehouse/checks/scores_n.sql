-- In a complete run, n of a resampled value is the number of graded rollouts behind it: all that are samples from the boundary, or those started there where recycling is off. Failed and ungraded ones do not count.
WITH sampled AS (
    SELECT
        run_id,
        trace_id,
        boundary,
        count(*) AS all_samples,
        count(*) FILTER (NOT recycled) AS started_there
    FROM boundary_samples
    WHERE unit_kind = 'sentence'
    GROUP BY ALL
)

SELECT
    s.run_id,
    s.trace_id,
    s.unit_index AS boundary,
    s.n,
    coalesce(c.all_samples, 0) AS all_samples,
    coalesce(c.started_there, 0) AS started_there
FROM scores AS s
INNER JOIN runs ON s.run_id = runs.run_id
LEFT JOIN sampled AS c
    ON s.run_id = c.run_id AND s.trace_id = c.trace_id AND s.unit_index = c.boundary
WHERE
    s.method = 'resample'
    AND s.unit_kind = 'boundary'
    AND s.metric = 'value'
    AND s.status IN ('ok', 'insufficient')
    AND runs.status IN ('complete', 'complete_with_errors')
    AND s.n <> coalesce(c.all_samples, 0)
    AND s.n <> coalesce(c.started_there, 0);
