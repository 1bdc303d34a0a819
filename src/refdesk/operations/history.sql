-- name: write
-- By primary key, in its order. A step that is not over is written again.
INSERT INTO operations_samples (step_s, at, process, figures)
SELECT * FROM unnest(%(steps)s::integer[], %(times)s::timestamptz[], %(processes)s::text[], %(figures)s::jsonb[]) ORDER BY 1, 2, 3
ON CONFLICT (step_s, at, process) DO UPDATE SET figures = excluded.figures

-- name: read
-- Index: operations_samples_pkey.
SELECT at, process, figures -> %(plot)s FROM operations_samples
WHERE step_s = %(step_s)s AND at >= %(since)s AND figures ? %(plot)s ORDER BY at, process LIMIT %(count)s

-- name: all
-- Index: operations_samples_pkey.
SELECT at, process, figures FROM operations_samples
WHERE step_s = %(step_s)s AND at >= %(since)s ORDER BY at, process LIMIT %(count)s

-- name: prune
-- Index: operations_samples_pkey.
DELETE FROM operations_samples WHERE step_s = %(step_s)s AND at < %(before)s
