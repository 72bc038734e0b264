CREATE OR REPLACE VIEW anchors AS
WITH tested AS (
    SELECT
        s.run_id,
        s.trace_id,
        s.unit_index,
        s.method,
        s.evidence,
        (s.extra ->> 'p')::DOUBLE AS p,
        count(*) OVER (PARTITION BY s.run_id, s.method, s.evidence) AS tests,
        -- Ties share the last of their places.
        count(*) OVER (
            PARTITION BY s.run_id, s.method, s.evidence
            ORDER BY (s.extra ->> 'p')::DOUBLE
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS place
    FROM scores AS s
    WHERE
        s.unit_kind = 'sentence' AND s.metric = 'delta_value' AND s.target = ''
        AND (s.extra ->> 'p')::DOUBLE IS NOT NULL
),

adjusted AS (
    SELECT
        d.run_id,
        d.trace_id,
        d.unit_index,
        d.method,
        d.evidence,
        least(
            1.0,
            min(d.p * d.tests / d.place) OVER (
                PARTITION BY d.run_id, d.method, d.evidence
                ORDER BY d.p DESC
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            )
        ) AS p_adjusted_run
    FROM tested AS d
)

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
    j.p_adjusted_run,
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
LEFT JOIN adjusted AS j
    ON
        s.run_id = j.run_id
        AND s.trace_id = j.trace_id
        AND s.unit_index = j.unit_index
        AND s.method = j.method
        AND s.evidence = j.evidence
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
COMMENT ON COLUMN anchors.p_adjusted IS 'p adjusted over the sentences of the trace (Benjamini-Hochberg), for one trace read by itself: an anchor at a false discovery rate of 10 % has p_adjusted <= 0.1.';
COMMENT ON COLUMN anchors.p_adjusted_run IS 'p adjusted over all sentences of the run with a p-value of this method and evidence (Benjamini-Hochberg): for rankings across traces, where most of what p_adjusted calls an anchor may be chance.';
COMMENT ON COLUMN anchors.prob_matters IS 'Posterior probability that the effect is larger than resample.delta in size (method resample-pooled).';
COMMENT ON COLUMN anchors.prob_decisive IS 'Posterior probability that this sentence has the largest effect of the trace, and one above delta (method resample-pooled).';
