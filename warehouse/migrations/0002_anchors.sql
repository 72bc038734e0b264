-- What a rollout wrote instead of the trace, and rollouts that are not plain continuations.

ALTER TABLE items ADD COLUMN intervention VARCHAR DEFAULT '';
COMMENT ON COLUMN items.intervention IS 'What was done to the prefix besides cutting it: empty, or force (a suffix makes the model answer at once).';

ALTER TABLE units ADD COLUMN category VARCHAR;
COMMENT ON COLUMN units.category IS 'What kind of sentence it is (problem_setup, plan_generation, ...), see labeller; NULL for other units.';

ALTER TABLE units ADD COLUMN labeller VARCHAR;
COMMENT ON COLUMN units.labeller IS 'What chose the category: rules, or the name of a model (tracelab label).';

ALTER TABLE rollouts ADD COLUMN left_unit INTEGER;
ALTER TABLE rollouts ADD COLUMN own_sentence VARCHAR;
ALTER TABLE rollouts ADD COLUMN intervention VARCHAR DEFAULT '';
COMMENT ON COLUMN rollouts.left_unit IS 'The sentence of the trace in which it first differs; NULL when it never does, failed, or was forced.';
COMMENT ON COLUMN rollouts.own_sentence IS 'What it wrote in place of that sentence; NULL if nothing.';
COMMENT ON COLUMN rollouts.similarity IS 'Cosine similarity of own_sentence and the sentence it replaces, in [-1, 1]; NULL if not computed.';
COMMENT ON COLUMN rollouts.intervention IS 'As in items: plain rollouts have none. Forced ones are samples of no boundary''s value.';
