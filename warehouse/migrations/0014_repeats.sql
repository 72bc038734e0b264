-- Whether the endpoint that served a run repeats itself for a seed.
ALTER TABLE runs ADD COLUMN repeats BOOLEAN;
COMMENT ON COLUMN runs.repeats IS 'Of a run behind a chat endpoint: whether a request with the same seed got the same reply, and one with another seed another. NULL where it was not measured, or could not be told.';
