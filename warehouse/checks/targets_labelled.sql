-- A statement is called insufficient exactly when it was not measured with and without its context.
SELECT run_id, trace_id, target, label, logprob_full, logprob_empty
FROM targets
WHERE
    (label = 'insufficient') <> (logprob_full IS NULL OR logprob_empty IS NULL)
    OR (kind <> 'contrast' AND greatest(logprob_full, logprob_empty) > 1e-6);
