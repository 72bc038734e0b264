-- A run that says complete has no rollout that failed or could not be graded, and none that was cut before it came to an answer; one with such rollouts says complete_with_errors.
SELECT r.run_id, r.trace_id, r.item_key, r.replicate, r.grade_status, r.error
FROM rollouts AS r
INNER JOIN runs ON r.run_id = runs.run_id
WHERE
    runs.status = 'complete'
    AND (
        r.error IS NOT NULL
        OR r.grade_status = 'ungraded'
        OR (r.grade_status = 'unanswered' AND starts_with(r.grade_detail, 'truncated'))
    );
