CREATE OR REPLACE VIEW sentence_links AS
WITH tested AS (
    SELECT
        k.run_id,
        k.trace_id,
        k.method,
        k.metric,
        k.evidence,
        k.unit_kind,
        k.from_index,
        k.to_index,
        (k.extra ->> 'p')::DOUBLE AS p,
        count(*) OVER (PARTITION BY k.run_id, k.method, k.metric, k.evidence) AS tests,
        -- Ties share the last of their places.
        count(*) OVER (
            PARTITION BY k.run_id, k.method, k.metric, k.evidence
            ORDER BY (k.extra ->> 'p')::DOUBLE
            RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
        ) AS place
    FROM links AS k
    WHERE (k.extra ->> 'p')::DOUBLE IS NOT NULL
),

adjusted AS (
    SELECT
        d.*,
        least(
            1.0,
            min(d.p * d.tests / d.place) OVER (
                PARTITION BY d.run_id, d.method, d.metric, d.evidence
                ORDER BY d.p DESC
                RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
            )
        ) AS p_adjusted_run
    FROM tested AS d
)

SELECT
    l.run_id,
    l.trace_id,
    t.name AS trace_name,
    l.method,
    l.metric,
    l.evidence,
    l.from_index,
    a.text AS from_text,
    l.to_index,
    b.text AS to_text,
    l.value,
    l.lo,
    l.hi,
    l.level,
    l.n,
    l.status,
    (l.extra ->> 'n_kept')::INTEGER AS n_kept,
    (l.extra ->> 'n_replaced')::INTEGER AS n_replaced,
    (l.extra ->> 'p_adjusted')::DOUBLE AS p_adjusted,
    j.p_adjusted_run
FROM links AS l
INNER JOIN traces AS t ON l.run_id = t.run_id AND l.trace_id = t.trace_id
INNER JOIN units AS a
    ON
        l.run_id = a.run_id
        AND l.trace_id = a.trace_id
        AND l.unit_kind = a.unit_kind
        AND l.from_index = a.unit_index
INNER JOIN units AS b
    ON
        l.run_id = b.run_id
        AND l.trace_id = b.trace_id
        AND l.unit_kind = b.unit_kind
        AND l.to_index = b.unit_index
LEFT JOIN adjusted AS j
    ON
        l.run_id = j.run_id
        AND l.trace_id = j.trace_id
        AND l.method = j.method
        AND l.metric = j.metric
        AND l.evidence = j.evidence
        AND l.unit_kind = j.unit_kind
        AND l.from_index = j.from_index
        AND l.to_index = j.to_index
ORDER BY l.run_id, l.trace_id, l.method, l.metric, abs(l.value) DESC NULLS LAST;

COMMENT ON VIEW sentence_links IS 'One row per influence of a sentence on a later one, with both texts. Key: (run_id, trace_id, method, metric, evidence, from_index, to_index).';
COMMENT ON COLUMN sentence_links.run_id IS 'The run.';
COMMENT ON COLUMN sentence_links.trace_id IS 'The trace.';
COMMENT ON COLUMN sentence_links.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN sentence_links.method IS 'What measured it.';
COMMENT ON COLUMN sentence_links.metric IS 'link: change of the probability that the later sentence, or one like it, is written. suppression_kl, attention: see docs/statistics.';
COMMENT ON COLUMN sentence_links.evidence IS 'executed, replayed, scored or judged.';
COMMENT ON COLUMN sentence_links.from_index IS 'The sentence that is changed.';
COMMENT ON COLUMN sentence_links.from_text IS 'Its text.';
COMMENT ON COLUMN sentence_links.to_index IS 'The later sentence that is watched.';
COMMENT ON COLUMN sentence_links.to_text IS 'Its text.';
COMMENT ON COLUMN sentence_links.value IS 'Point estimate; positive when the earlier sentence makes the later one more likely; NULL when it could not be measured.';
COMMENT ON COLUMN sentence_links.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN sentence_links.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN sentence_links.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN sentence_links.n IS 'Rollouts or probes behind it.';
COMMENT ON COLUMN sentence_links.status IS 'ok, insufficient, certified or failed.';
COMMENT ON COLUMN sentence_links.n_kept IS 'Rollouts that go on from after the earlier sentence; NULL for methods without rollouts.';
COMMENT ON COLUMN sentence_links.n_replaced IS 'Rollouts that wrote something else in its place.';
COMMENT ON COLUMN sentence_links.p_adjusted IS 'p-value of no influence, adjusted over all pairs of the trace (Benjamini-Hochberg), for one trace read by itself.';
COMMENT ON COLUMN sentence_links.p_adjusted_run IS 'p adjusted over all pairs of the run that were tested, of this method, metric and evidence (Benjamini-Hochberg): for rankings across traces.';
