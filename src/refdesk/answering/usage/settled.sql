-- name: mark
-- Those that were not booked before. In the order of ids, so that two processes never wait for each other.
INSERT INTO usage_booked (id) SELECT unnest(%(ids)s::text[]) ORDER BY 1
ON CONFLICT (id) DO NOTHING RETURNING id

-- name: add
-- By primary key, in its order.
INSERT INTO usage_days AS u (day, principal_id, groups, model, answers, shared, input_tokens, output_tokens, cost)
SELECT day, principal_id, string_to_array(groups, ','), model, sum(answers), sum(shared), sum(input_tokens), sum(output_tokens),
       sum(cost)
FROM unnest(%(days)s::date[], %(principals)s::text[], %(groups)s::text[], %(models)s::text[], %(answers)s::bigint[],
            %(shared)s::bigint[], %(inputs)s::bigint[], %(outputs)s::bigint[], %(costs)s::numeric[])
     AS given (day, principal_id, groups, model, answers, shared, input_tokens, output_tokens, cost)
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 4, 3
ON CONFLICT (day, principal_id, model, groups) DO UPDATE
SET answers = u.answers + excluded.answers, shared = u.shared + excluded.shared,
    input_tokens = u.input_tokens + excluded.input_tokens, output_tokens = u.output_tokens + excluded.output_tokens,
    cost = CASE WHEN excluded.cost IS NULL THEN u.cost ELSE coalesce(u.cost, 0) + excluded.cost END

-- name: name
INSERT INTO usage_principals AS p (principal_id, name)
SELECT * FROM unnest(%(principals)s::text[], %(names)s::text[]) ORDER BY 1
ON CONFLICT (principal_id) DO UPDATE SET name = excluded.name WHERE p.name <> excluded.name

-- name: of_principal
-- Index: usage_days_of_principal.
SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint, coalesce(sum(cost), 0)
FROM usage_days WHERE principal_id = %(key)s AND day >= %(since)s

-- name: of_group
-- Index: usage_days_pkey.
SELECT coalesce(sum(input_tokens + output_tokens), 0)::bigint, coalesce(sum(cost), 0)
FROM usage_days WHERE %(key)s = ANY (groups) AND day >= %(since)s

-- name: sums
-- By what is asked for; the other columns are empty. Who is in several groups counts in each of them, where it is by group.
-- Index: usage_days_pkey, usage_days_of_principal.
SELECT CASE WHEN %(by_day)s THEN u.day::text ELSE '' END AS day,
       CASE WHEN %(by_principal)s THEN u.principal_id ELSE '' END AS principal_id,
       CASE WHEN %(by_group)s THEN g.name ELSE '' END AS group_name,
       CASE WHEN %(by_model)s THEN u.model ELSE '' END AS model,
       max(p.name), sum(u.answers)::bigint, sum(u.shared)::bigint, sum(u.input_tokens)::bigint, sum(u.output_tokens)::bigint,
       sum(u.cost)
FROM usage_days u
CROSS JOIN LATERAL unnest(CASE WHEN %(by_group)s AND u.groups <> '{}' THEN u.groups ELSE ARRAY[''] END) AS g (name)
LEFT JOIN usage_principals p ON %(by_principal)s AND p.principal_id = u.principal_id
WHERE u.day BETWEEN %(first)s AND %(last)s
  AND (%(principal_id)s::text IS NULL OR u.principal_id = %(principal_id)s)
  AND (%(group)s::text IS NULL OR %(group)s = ANY (u.groups))
  AND (%(model)s::text IS NULL OR u.model = %(model)s)
GROUP BY 1, 2, 3, 4
HAVING %(from_start)s OR (CASE WHEN %(by_day)s THEN u.day::text ELSE '' END, CASE WHEN %(by_principal)s THEN u.principal_id ELSE '' END,
        CASE WHEN %(by_group)s THEN g.name ELSE '' END, CASE WHEN %(by_model)s THEN u.model ELSE '' END)
       > (%(after_day)s::text, %(after_principal)s::text, %(after_group)s::text, %(after_model)s::text)
ORDER BY 1, 2, 3, 4
LIMIT %(count)s

-- name: forget_booked
-- Index: usage_booked_by_time.
DELETE FROM usage_booked WHERE booked_at < now() - make_interval(secs => %(kept_s)s)

-- name: forget_days
-- Index: usage_days_pkey.
DELETE FROM usage_days WHERE day < current_date - %(kept_days)s::integer
