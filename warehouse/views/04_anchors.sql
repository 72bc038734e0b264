CREATE OR REPLACE VIEW anchors AS
SELECT
    s.run_id,
    s.trace_id,
    t.name AS trace_name,
    s.method,
    s.evidence,
    CASE
        WHEN s.value IS NOT NULL THEN
            row_number() OVER (
                PARTITION BY s.run_id, s.trace_id, s.method, s.evidence
                ORDER BY abs(s.value) DESC NULLS LAST, s.unit_index
            )
    END AS rank,
    s.unit_index,
    u.text,
    u.role,
    u.category,
    s.value,
    s.lo,
    s.hi,
    s.level,
    s.n,
    s.status,
    (s.extra ->> 'p')::DOUBLE AS p,
    (s.extra ->> 'p_adjusted')::DOUBLE AS p_adjusted,
    -- Of what was not measured they would be the prior's.
    CASE WHEN s.status IN ('ok', 'certified') THEN (s.extra ->> 'prob_matters')::DOUBLE END
        AS prob_matters,
    CASE WHEN s.status IN ('ok', 'certified') THEN (s.extra ->> 'prob_decisive')::DOUBLE END
        AS prob_decisive
FROM scores AS s
INNER JOIN units AS u
    ON
        s.run_id = u.run_id
        AND s.trace_id = u.trace_id
        AND s.unit_kind = u.unit_kind
        AND s.unit_index = u.unit_index
INNER JOIN traces AS t ON s.run_id = t.run_id AND s.trace_id = t.trace_id
WHERE s.unit_kind = 'sentence' AND s.metric = 'delta_value' AND s.target = ''
ORDER BY s.run_id, s.trace_id, s.method, s.evidence, rank NULLS LAST, s.unit_index;

COMMENT ON VIEW anchors IS 'Sentences that matter. One row per sentence with a delta_value score, ranked by the size of value within run, trace, method and evidence; what could not be measured comes last, without a rank. Key: (run_id, trace_id, method, evidence, unit_index).';
COMMENT ON COLUMN anchors.run_id IS 'The run.';
COMMENT ON COLUMN anchors.trace_id IS 'The trace.';
COMMENT ON COLUMN anchors.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN anchors.method IS 'What estimated it.';
COMMENT ON COLUMN anchors.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN anchors.rank IS '1 for the value farthest from 0, ties by position; NULL when value is NULL.';
COMMENT ON COLUMN anchors.unit_index IS 'Position of the sentence in the trace, from 0.';
COMMENT ON COLUMN anchors.text IS 'The sentence.';
COMMENT ON COLUMN anchors.category IS 'What the sentence does, as units.category: unknown if no rule fits.';
COMMENT ON COLUMN anchors.role IS 'Its known role, if any.';
COMMENT ON COLUMN anchors.value IS 'Expected reward after the sentence minus before it, in [-1, 1]; positive when the sentence raised it.';
COMMENT ON COLUMN anchors.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN anchors.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN anchors.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN anchors.n IS 'Graded rollouts behind it.';
COMMENT ON COLUMN anchors.status IS 'ok, insufficient, certified or failed.';
COMMENT ON COLUMN anchors.p IS 'Two-sided p-value of no effect (method resample: Fisher''s exact test); NULL for methods without one.';
COMMENT ON COLUMN anchors.p_adjusted IS 'p adjusted over the sentences of the trace (Benjamini-Hochberg): an anchor at a false discovery rate of 10 % has p_adjusted <= 0.1.';
COMMENT ON COLUMN anchors.prob_matters IS 'Posterior probability that the effect is larger than resample.delta in size (method resample-pooled).';
COMMENT ON COLUMN anchors.prob_decisive IS 'Posterior probability that this sentence has the largest effect of the trace, and one above delta (method resample-pooled).';
