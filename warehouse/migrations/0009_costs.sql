-- What runs cost at endpoints too, in requests and money; what a run that could not be repeated
-- had on record, and what came instead; traces that another model made.
ALTER TABLE sessions ADD COLUMN requests BIGINT;
ALTER TABLE sessions ADD COLUMN endpoint_requests BIGINT;
ALTER TABLE sessions ADD COLUMN endpoint_prompt_tokens BIGINT;
ALTER TABLE sessions ADD COLUMN endpoint_generated_tokens BIGINT;
ALTER TABLE sessions ADD COLUMN endpoint_seconds DOUBLE;
ALTER TABLE sessions ADD COLUMN money DOUBLE;
COMMENT ON COLUMN sessions.prompt_tokens IS 'Tokens read: all prefixes sent to engines, cached ones included, targets that were scored, and prompts of endpoints.';
COMMENT ON COLUMN sessions.cached_tokens IS 'How many of prompt_tokens the engine took from its prefix cache; NULL if it does not tell.';
COMMENT ON COLUMN sessions.generated_tokens IS 'Tokens written: by engines (re-executions and judges of the local model included) and by endpoints.';
COMMENT ON COLUMN sessions.observations IS 'Observations kept in the journal, failures included.';
COMMENT ON COLUMN sessions.requests IS 'Answers asked of models: each replicate of an engine, and each attempt at an endpoint; NULL in sessions of before this was kept.';
COMMENT ON COLUMN sessions.endpoint_requests IS 'Of requests, attempts at chat endpoints (judges), those that failed included; NULL as requests.';
COMMENT ON COLUMN sessions.endpoint_prompt_tokens IS 'Of prompt_tokens, those that chat endpoints say they read; NULL as requests.';
COMMENT ON COLUMN sessions.endpoint_generated_tokens IS 'Of generated_tokens, those that chat endpoints say they wrote; NULL as requests.';
COMMENT ON COLUMN sessions.endpoint_seconds IS 'Seconds that requests to chat endpoints took, one after the other; more than seconds where they overlap. NULL as requests.';
COMMENT ON COLUMN sessions.money IS 'What the tokens cost by the prices of the config (engine.server, grading.judge, audit.judge), in their unit; NULL where there is no price.';

ALTER TABLE traces ADD COLUMN off_policy BOOLEAN;
COMMENT ON COLUMN traces.off_policy IS 'Whether another model made the trace than the one that measures it; NULL where the source does not name the model that made it, or none measures.';

ALTER TABLE verdicts ADD COLUMN recorded VARCHAR;
ALTER TABLE verdicts ADD COLUMN came_instead VARCHAR;
COMMENT ON COLUMN verdicts.recorded IS 'Of a nonreproducible run: the recorded reply (or score) that did not come again; NULL for other verdicts, and where nothing could be executed.';
COMMENT ON COLUMN verdicts.came_instead IS 'Of a nonreproducible run: what came instead of it, or why nothing could be executed; NULL for other verdicts.';
