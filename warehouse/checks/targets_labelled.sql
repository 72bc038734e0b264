-- A statement is called insufficient exactly when it was not measured with and without its context,
-- and said to be from memory, or to follow from its response, only when that was measured.
SELECT run_id, trace_id, target, label, logprob_full, logprob_empty, logprob_alone
FROM targets
WHERE
    (
        outcome = 'logprob'
        AND (label = 'insufficient') <> (logprob_full IS NULL OR logprob_empty IS NULL)
    )
    OR (outcome <> 'logprob' AND label <> 'insufficient' AND (value_full IS NULL OR value_empty IS NULL))
    OR (label IN ('memory', 'derived') AND outcome = 'logprob' AND logprob_alone IS NULL)
    OR (kind <> 'contrast' AND greatest(logprob_full, logprob_empty, logprob_alone) > 1e-6);
