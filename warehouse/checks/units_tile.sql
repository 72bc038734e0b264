-- Units of a kind follow one another without overlap and, but for spans, without gap, in characters and in tokens, and a sentence's text is the response's.
WITH neighbours AS (
    SELECT
        u.run_id,
        u.trace_id,
        u.unit_kind,
        u.unit_index,
        u.start_char,
        u.end_char,
        u.start_token,
        u.end_token,
        u.text,
        CASE u.unit_kind
            WHEN 'span' THEN t.n_prompt_tokens
            ELSE t.n_response_tokens
        END AS n_tokens,
        lag(u.unit_index, 1, -1) OVER earlier AS last_index,
        lag(u.end_char, 1, u.start_char) OVER earlier AS last_char,
        lag(u.end_token, 1, u.start_token) OVER earlier AS last_token
    FROM units AS u
    INNER JOIN traces AS t ON u.run_id = t.run_id AND u.trace_id = t.trace_id
    WINDOW
        earlier AS (
            PARTITION BY u.run_id, u.trace_id, u.unit_kind ORDER BY u.unit_index
        )
),

responses AS (
    SELECT run_id, trace_id, max_by(text, turn_index) AS text
    FROM turns
    GROUP BY ALL
)

SELECT
    n.run_id,
    n.trace_id,
    n.unit_kind,
    n.unit_index,
    n.last_char,
    n.start_char,
    n.end_char,
    n.last_token,
    n.start_token,
    n.end_token
FROM neighbours AS n
LEFT JOIN responses AS r ON n.run_id = r.run_id AND n.trace_id = r.trace_id
WHERE
    n.unit_index <> n.last_index + 1
    OR n.start_char < n.last_char
    OR n.start_token < n.last_token
    OR (n.unit_kind <> 'span' AND n.start_char > n.last_char)
    OR (n.unit_kind <> 'span' AND n.start_token > n.last_token)
    OR n.end_token > n.n_tokens
    OR (
        n.unit_kind = 'sentence'
        AND n.text <> substring(r.text, n.start_char + 1, n.end_char - n.start_char)
    );
