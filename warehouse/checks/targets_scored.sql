-- Every score about a span names a target that its trace has, and every span says where it stands.
SELECT 'no such target' AS problem, s.run_id, s.trace_id, s.unit_index, s.target
FROM scores AS s
ANTI JOIN targets AS g
    ON s.run_id = g.run_id AND s.trace_id = g.trace_id AND s.target = g.target
WHERE s.unit_kind = 'span'
UNION ALL
SELECT 'span without a place', u.run_id, u.trace_id, u.unit_index, ''
FROM units AS u
ANTI JOIN spans AS p
    ON u.run_id = p.run_id AND u.trace_id = p.trace_id AND u.unit_index = p.unit_index
WHERE u.unit_kind = 'span';
