CREATE OR REPLACE VIEW run_costs AS
WITH sampled AS (
    -- A sample used by several traces was paid for once.
    SELECT
        run_id,
        item_key,
        replicate,
        max(n_tokens) AS n_tokens,
        bool_and(error IS NOT NULL) AS failed,
        bool_and(error IS NULL AND grade_status = 'ungraded') AS ungraded,
        bool_and(grade_status = 'unanswered' AND starts_with(grade_detail, 'truncated')) AS truncated
    FROM rollouts
    GROUP BY run_id, item_key, replicate
),

rolled AS (
    SELECT
        run_id,
        count(*) AS rollouts,
        sum(n_tokens)::BIGINT AS generated_tokens,
        count(*) FILTER (failed) AS errors,
        count(*) FILTER (ungraded) AS ungraded,
        count(*) FILTER (truncated) AS truncated
    FROM sampled
    GROUP BY run_id
),

-- Re-executions of agents; what a replay has no answer to is no failure.
again AS (
    SELECT
        run_id,
        count(*) FILTER (error IS NOT NULL AND NOT starts_with(error, 'truncated')) AS errors,
        count(*) FILTER (error IS NULL AND reward IS NULL AND NOT censored) AS ungraded,
        count(*) FILTER (starts_with(error, 'truncated')) AS truncated
    FROM reruns
    GROUP BY run_id
),

-- Answers sampled under masks of a context.
masked AS (
    SELECT
        run_id,
        count(*) FILTER (error IS NOT NULL) AS errors,
        count(*) FILTER (grade_status = 'ungraded') AS ungraded,
        count(*) FILTER (starts_with(grade_detail, 'truncated')) AS truncated
    FROM masked_answers
    GROUP BY run_id
),

used AS (
    SELECT run_id, count(*) AS rollout_uses
    FROM rollouts
    GROUP BY run_id
),

spent AS (
    SELECT
        run_id,
        count(*) AS sessions,
        sum(prompt_tokens)::BIGINT AS prompt_tokens,
        sum(generated_tokens)::BIGINT AS generated_tokens,
        sum(requests)::BIGINT AS requests,
        sum(endpoint_requests)::BIGINT AS endpoint_requests,
        sum(endpoint_prompt_tokens)::BIGINT AS endpoint_prompt_tokens,
        sum(endpoint_generated_tokens)::BIGINT AS endpoint_generated_tokens,
        sum(endpoint_seconds) AS endpoint_seconds,
        sum(money) AS money,
        sum(cached_tokens)::BIGINT AS cached_tokens,
        -- Only over the sessions whose engine tells.
        sum(prompt_tokens) FILTER (cached_tokens IS NOT NULL)::BIGINT AS cacheable_tokens,
        sum(seconds) AS seconds,
        sum(start_seconds) AS start_seconds
    FROM sessions
    GROUP BY run_id
),

executed AS (
    SELECT run_id, count(*) AS reruns
    FROM reruns
    GROUP BY run_id
),

scored AS (
    SELECT run_id, count(*) AS scores
    FROM scores
    WHERE value IS NOT NULL
    GROUP BY run_id
),

studied AS (
    SELECT run_id, count(*) AS traces
    FROM traces
    GROUP BY run_id
),

refused AS (
    SELECT run_id, count(*) AS rejects
    FROM rejects
    GROUP BY run_id
)

SELECT
    r.run_id,
    r.name,
    r.study,
    r.engine,
    r.model,
    r.status,
    coalesce(studied.traces, 0) AS traces,
    coalesce(rolled.rollouts, 0) AS rollouts,
    coalesce(used.rollout_uses, 0) AS rollout_uses,
    coalesce(rolled.errors, 0) + coalesce(again.errors, 0) + coalesce(masked.errors, 0) AS errors,
    coalesce(rolled.ungraded, 0) + coalesce(again.ungraded, 0) + coalesce(masked.ungraded, 0)
        AS ungraded,
    coalesce(rolled.truncated, 0) + coalesce(again.truncated, 0) + coalesce(masked.truncated, 0)
        AS truncated,
    coalesce(refused.rejects, 0) AS rejects,
    -- Sessions count everything; of one that was killed before it was loaded, samples tell.
    greatest(coalesce(spent.generated_tokens, 0), coalesce(rolled.generated_tokens, 0))
        AS generated_tokens,
    spent.prompt_tokens,
    spent.cached_tokens,
    spent.cached_tokens / nullif(spent.cacheable_tokens, 0) AS cache_hit_rate,
    coalesce(spent.sessions, 0) AS sessions,
    spent.seconds,
    spent.start_seconds,
    coalesce(scored.scores, 0) AS scores,
    greatest(spent.generated_tokens, rolled.generated_tokens) / nullif(scored.scores, 0)
        AS tokens_per_score,
    coalesce(executed.reruns, 0) AS reruns,
    spent.requests,
    spent.endpoint_requests,
    spent.endpoint_prompt_tokens,
    spent.endpoint_generated_tokens,
    spent.endpoint_seconds,
    spent.money
FROM runs AS r
LEFT JOIN studied ON r.run_id = studied.run_id
LEFT JOIN rolled ON r.run_id = rolled.run_id
LEFT JOIN again ON r.run_id = again.run_id
LEFT JOIN masked ON r.run_id = masked.run_id
LEFT JOIN used ON r.run_id = used.run_id
LEFT JOIN spent ON r.run_id = spent.run_id
LEFT JOIN executed ON r.run_id = executed.run_id
LEFT JOIN scored ON r.run_id = scored.run_id
LEFT JOIN refused ON r.run_id = refused.run_id
ORDER BY r.started_at, r.run_id;

COMMENT ON VIEW run_costs IS 'One row per run: what it cost and what it bought. Key: (run_id).';
COMMENT ON COLUMN run_costs.run_id IS 'The run.';
COMMENT ON COLUMN run_costs.name IS 'What the user calls it.';
COMMENT ON COLUMN run_costs.study IS 'What was studied: anchors, cite, audit, ...; or ingest.';
COMMENT ON COLUMN run_costs.engine IS 'What sampled.';
COMMENT ON COLUMN run_costs.model IS 'Name or path of the model.';
COMMENT ON COLUMN run_costs.status IS 'As in runs.';
COMMENT ON COLUMN run_costs.traces IS 'Traces studied.';
COMMENT ON COLUMN run_costs.rollouts IS 'Distinct samples (item_key, replicate), failures included.';
COMMENT ON COLUMN run_costs.rollout_uses IS 'Rows of rollouts: a sample counts once for each trace that uses it.';
COMMENT ON COLUMN run_costs.errors IS 'Distinct samples whose generation failed, and re-executions that failed.';
COMMENT ON COLUMN run_costs.ungraded IS 'Those that were had and could not be graded: their outcome is unknown.';
COMMENT ON COLUMN run_costs.truncated IS 'Those that the limit of tokens cut before they came to an answer.';
COMMENT ON COLUMN run_costs.rejects IS 'Input records that could not be used.';
COMMENT ON COLUMN run_costs.generated_tokens IS 'Tokens written, over all sessions: samples, re-executions, judges; at least those of the distinct samples.';
COMMENT ON COLUMN run_costs.prompt_tokens IS 'Tokens read, over all sessions, cached ones and prompts of endpoints included; NULL without sessions.';
COMMENT ON COLUMN run_costs.cached_tokens IS 'How many of them came from the prefix cache; NULL if no engine told.';
COMMENT ON COLUMN run_costs.cache_hit_rate IS 'cached_tokens over the prompt tokens of the sessions whose engine tells, in [0, 1].';
COMMENT ON COLUMN run_costs.sessions IS 'Invocations that worked on the run.';
COMMENT ON COLUMN run_costs.seconds IS 'Their wall time, seconds.';
COMMENT ON COLUMN run_costs.start_seconds IS 'The part of it that went into starting engines.';
COMMENT ON COLUMN run_costs.scores IS 'Scores that have a value.';
COMMENT ON COLUMN run_costs.tokens_per_score IS 'generated_tokens over scores; NULL without scores.';
COMMENT ON COLUMN run_costs.reruns IS 'Re-executions of agents; their tokens are among the others.';
COMMENT ON COLUMN run_costs.requests IS 'Answers asked of models: each replicate of an engine, and each attempt at an endpoint; NULL where no session kept it.';
COMMENT ON COLUMN run_costs.endpoint_requests IS 'Of requests, attempts at chat endpoints (judges).';
COMMENT ON COLUMN run_costs.endpoint_prompt_tokens IS 'Of prompt_tokens, those of chat endpoints.';
COMMENT ON COLUMN run_costs.endpoint_generated_tokens IS 'Of generated_tokens, those of chat endpoints.';
COMMENT ON COLUMN run_costs.endpoint_seconds IS 'Seconds that requests to chat endpoints took, added up.';
COMMENT ON COLUMN run_costs.money IS 'What the tokens cost by the prices of the config, in their unit; NULL where there is no price.';
