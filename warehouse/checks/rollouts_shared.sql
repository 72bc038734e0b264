-- A sample used by several traces is the same sample in each: same text, tokens and failure.
SELECT
    run_id,
    item_key,
    replicate,
    count(DISTINCT trace_id) AS traces,
    count(DISTINCT text) AS texts,
    count(DISTINCT n_tokens) AS lengths
FROM rollouts
GROUP BY ALL
HAVING
    count(DISTINCT text) > 1
    OR count(DISTINCT n_tokens) > 1
    OR count(DISTINCT coalesce(error, '')) > 1;
