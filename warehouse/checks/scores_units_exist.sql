-- Every score is about a unit, or a boundary, that its trace has; boundary 0 is before everything.
SELECT s.run_id, s.trace_id, s.unit_kind, s.unit_index, s.method, s.metric
FROM scores AS s
INNER JOIN traces AS t ON s.run_id = t.run_id AND s.trace_id = t.trace_id
ANTI JOIN units AS u
    ON
        s.run_id = u.run_id
        AND s.trace_id = u.trace_id
        AND s.unit_kind = u.unit_kind
        AND s.unit_index = u.unit_index
ANTI JOIN boundaries AS b
    ON
        s.run_id = b.run_id
        AND s.trace_id = b.trace_id
        AND s.unit_kind = 'boundary'
        AND s.unit_index = b.boundary
WHERE NOT (s.unit_kind = 'boundary' AND s.unit_index = 0);
