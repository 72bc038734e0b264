CREATE OR REPLACE VIEW grounding AS
WITH supports AS (
    SELECT
        run_id,
        trace_id,
        target,
        method,
        -- Where no span could be measured, none is known to support it, and none not to.
        CASE WHEN count(value) > 0 THEN count(*) FILTER (lo > 0) END AS supporting,
        first(span ORDER BY rank) FILTER (rank = 1 AND value > 0) AS top_span,
        first(unit_index ORDER BY rank) FILTER (rank = 1 AND value > 0) AS top_index,
        first(value ORDER BY rank) FILTER (rank = 1 AND value > 0) AS top_value,
        first(lo ORDER BY rank) FILTER (rank = 1 AND value > 0) AS top_lo,
        first(hi ORDER BY rank) FILTER (rank = 1 AND value > 0) AS top_hi
    FROM context_effects
    GROUP BY ALL
),

tests AS (
    SELECT
        run_id,
        trace_id,
        target,
        method,
        any_value(value) FILTER (metric = 'lds') AS lds,
        any_value(value) FILTER (metric = 'oof_lds') AS oof_lds,
        any_value(value) FILTER (metric = 'top_1_drop') AS top_1_drop
    FROM faithfulness
    GROUP BY ALL
)

SELECT
    g.run_id,
    g.trace_id,
    t.name AS trace_name,
    g.target,
    g.position,
    g.text AS statement,
    g.label,
    g.outcome,
    s.method,
    s.supporting,
    s.top_index,
    s.top_span,
    s.top_value,
    s.top_lo,
    s.top_hi,
    g.logprob_full,
    g.logprob_empty,
    g.logprob_alone,
    exp(least(0, g.logprob_empty - g.logprob_full)) AS parametric,
    f.lds,
    f.oof_lds,
    f.top_1_drop,
    g.value_full,
    g.value_empty,
    g.ablations
FROM targets AS g
INNER JOIN traces AS t ON g.run_id = t.run_id AND g.trace_id = t.trace_id
LEFT JOIN supports AS s
    ON g.run_id = s.run_id AND g.trace_id = s.trace_id AND g.target = s.target
LEFT JOIN tests AS f
    ON
        s.run_id = f.run_id
        AND s.trace_id = f.trace_id
        AND s.target = f.target
        AND s.method = f.method
ORDER BY g.run_id, g.trace_id, g.position, s.method;

COMMENT ON VIEW grounding IS 'Is each statement supported, and by what: the context, the model''s memory, the rest of the response? One row per target and method. Key: (run_id, trace_id, target, method); method is NULL where nothing was scored.';
COMMENT ON COLUMN grounding.run_id IS 'The run.';
COMMENT ON COLUMN grounding.trace_id IS 'The trace.';
COMMENT ON COLUMN grounding.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN grounding.target IS 'Name of the target, as in targets.';
COMMENT ON COLUMN grounding.position IS 'Its place among the targets of the trace.';
COMMENT ON COLUMN grounding.statement IS 'Its text.';
COMMENT ON COLUMN grounding.label IS 'grounded, diffuse, memory, derived, parametric, ungrounded or insufficient; see targets.label.';
COMMENT ON COLUMN grounding.outcome IS 'What was measured: logprob, or what of sampled answers is compared; as targets.outcome.';
COMMENT ON COLUMN grounding.method IS 'What scored the spans.';
COMMENT ON COLUMN grounding.supporting IS 'Spans whose interval lies above 0; NULL where no span could be measured.';
COMMENT ON COLUMN grounding.top_index IS 'The span that raises the statement most; NULL when none raises it.';
COMMENT ON COLUMN grounding.top_span IS 'Its text.';
COMMENT ON COLUMN grounding.top_value IS 'Its effect, nats; of sampled answers, from -1 to 1.';
COMMENT ON COLUMN grounding.top_lo IS 'Lower end of its interval.';
COMMENT ON COLUMN grounding.top_hi IS 'Upper end of its interval.';
COMMENT ON COLUMN grounding.logprob_full IS 'Log-probability of the statement given the whole context, nats.';
COMMENT ON COLUMN grounding.logprob_empty IS 'The same with every span ablated.';
COMMENT ON COLUMN grounding.logprob_alone IS 'Log-probability of its tokens after the first with neither the context nor the rest of the response, nats; see targets.logprob_alone.';
COMMENT ON COLUMN grounding.parametric IS 'Probability without the context over probability with it, at most 1: 1 is a statement that needs no context; label says whether it is from memory or follows from the rest of the response.';
COMMENT ON COLUMN grounding.lds IS 'How well the scores predict fresh masks, Spearman correlation; NULL when not measured.';
COMMENT ON COLUMN grounding.oof_lds IS 'The same out of fold, biased low.';
COMMENT ON COLUMN grounding.top_1_drop IS 'What is lost without the top span: log-probability, nats; of sampled answers, their outcome.';
COMMENT ON COLUMN grounding.value_full IS 'Of sampled answers: the outcome given the whole context, in [0, 1]; NULL where log-probabilities are explained.';
COMMENT ON COLUMN grounding.value_empty IS 'The same with every span ablated.';
COMMENT ON COLUMN grounding.ablations IS 'Ablations behind it.';
