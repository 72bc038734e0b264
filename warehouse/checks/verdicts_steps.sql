-- A verdict names steps that the trace has, and its credible set holds the decisive step; what is
-- localized by execution names one; no verdict without a decisive step has a posterior.
SELECT v.run_id, v.trace_id, v.method, v.evidence, v.status, v.decisive_step
FROM verdicts AS v
LEFT JOIN units AS u
    ON
        v.run_id = u.run_id
        AND v.trace_id = u.trace_id
        AND u.unit_kind = 'step'
        AND v.decisive_step = u.unit_index
WHERE
    (v.decisive_step IS NOT NULL AND u.unit_index IS NULL)
    OR (v.status = 'localized' AND v.decisive_step IS NULL)
    OR (v.posterior IS NOT NULL AND v.decisive_step IS NULL)
    OR (
        v.decisive_step IS NOT NULL
        AND json_array_length(v.credible_set) > 0
        AND NOT list_contains(CAST(v.credible_set AS INTEGER []), v.decisive_step)
    );
