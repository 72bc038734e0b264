-- A rollout leaves its trace where it starts or later, within the response and within what it generated.
SELECT
    r.run_id,
    r.trace_id,
    r.item_key,
    r.replicate,
    r.start_token,
    r.diverge_token,
    r.n_tokens,
    t.n_response_tokens
FROM rollouts AS r
INNER JOIN traces AS t ON r.run_id = t.run_id AND r.trace_id = t.trace_id
WHERE
    r.diverge_token < r.start_token
    OR r.diverge_token > greatest(t.n_response_tokens, r.start_token)
    OR r.diverge_token > r.start_token + r.n_tokens;
