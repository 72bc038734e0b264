CREATE OR REPLACE VIEW context_effects AS
SELECT
    s.run_id,
    s.trace_id,
    t.name AS trace_name,
    s.method,
    s.target,
    g.position,
    g.text AS statement,
    g.outcome,
    CASE
        WHEN s.value IS NOT NULL THEN
            row_number() OVER (
                PARTITION BY s.run_id, s.trace_id, s.method, s.target
                ORDER BY s.value DESC NULLS LAST, s.unit_index
            )
    END AS rank,
    s.unit_index,
    u.text AS span,
    u.role,
    p.turn_index,
    p.document,
    p.paragraph,
    s.value,
    s.lo,
    s.hi,
    s.level,
    s.n,
    s.status
FROM scores AS s
INNER JOIN targets AS g
    ON s.run_id = g.run_id AND s.trace_id = g.trace_id AND s.target = g.target
INNER JOIN units AS u
    ON
        s.run_id = u.run_id
        AND s.trace_id = u.trace_id
        AND s.unit_kind = u.unit_kind
        AND s.unit_index = u.unit_index
INNER JOIN spans AS p
    ON s.run_id = p.run_id AND s.trace_id = p.trace_id AND s.unit_index = p.unit_index
INNER JOIN traces AS t ON s.run_id = t.run_id AND s.trace_id = t.trace_id
WHERE s.unit_kind = 'span' AND s.metric = 'effect'
ORDER BY s.run_id, s.trace_id, s.method, g.position, rank NULLS LAST, s.unit_index;

COMMENT ON VIEW context_effects IS 'What each span of a context does to each statement. One row per span and target, ranked by value within run, trace, method and target; what could not be measured comes last, without a rank. Key: (run_id, trace_id, method, target, unit_index).';
COMMENT ON COLUMN context_effects.run_id IS 'The run.';
COMMENT ON COLUMN context_effects.trace_id IS 'The trace.';
COMMENT ON COLUMN context_effects.trace_name IS 'What the source calls the trace.';
COMMENT ON COLUMN context_effects.method IS 'What estimated it.';
COMMENT ON COLUMN context_effects.target IS 'Name of the target, as in targets.';
COMMENT ON COLUMN context_effects.position IS 'Its place among the targets of the trace.';
COMMENT ON COLUMN context_effects.statement IS 'Text of the target.';
COMMENT ON COLUMN context_effects.outcome IS 'What value is about, as targets.outcome.';
COMMENT ON COLUMN context_effects.rank IS '1 for the span that raises the target most, ties by position; NULL when value is NULL.';
COMMENT ON COLUMN context_effects.unit_index IS 'Index of the span, from 0.';
COMMENT ON COLUMN context_effects.span IS 'Its text.';
COMMENT ON COLUMN context_effects.role IS 'Its known role, if any.';
COMMENT ON COLUMN context_effects.turn_index IS 'The message it stands in.';
COMMENT ON COLUMN context_effects.document IS 'Number of its document; in a chat, of its message.';
COMMENT ON COLUMN context_effects.paragraph IS 'Number of its paragraph.';
COMMENT ON COLUMN context_effects.value IS 'Effect of keeping the span on the target, averaged over what else is kept; positive when the span makes the target likelier. Nats; of sampled answers, in their unit, from -1 to 1.';
COMMENT ON COLUMN context_effects.lo IS 'Lower end of the interval.';
COMMENT ON COLUMN context_effects.hi IS 'Upper end of the interval.';
COMMENT ON COLUMN context_effects.level IS 'Nominal coverage of [lo, hi].';
COMMENT ON COLUMN context_effects.n IS 'Ablations behind it.';
COMMENT ON COLUMN context_effects.status IS 'ok, insufficient, certified or failed.';
