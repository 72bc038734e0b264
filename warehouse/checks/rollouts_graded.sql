-- A graded rollout has an answer and a reward in [0, 1]; an ungraded or failed one has neither.
SELECT run_id, trace_id, item_key, replicate, grade_status, answer, reward, error
FROM rollouts
WHERE
    CASE
        WHEN grade_status IN ('graded', 'unanswered')
            THEN
                answer IS NULL
                OR error IS NOT NULL
                OR coalesce(isnan(reward) OR reward < 0 OR reward > 1, TRUE)
        ELSE answer IS NOT NULL OR reward IS NOT NULL
    END;
