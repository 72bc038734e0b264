-- A statement is called insufficient exactly when it was not measured with and without its context,
-- and said to be from memory, or to follow from its response, only when that was measured.
SELECT run_id, trace_id, target, label, logprob_full, logprob_empty, logprob_alone
FROM targets
WHERE
    (label = 'insufficient') <> (logprob_full IS NULL OR logprob_empty IS NULL)
    OR (label IN ('memory', 'derived') AND logprob_alone IS NULL)
    OR (kind <> 'contrast' AND greatest(logprob_full, logprob_empty, logprob_alone) > 1e-6);
