-- name: claim_pass
-- One row; it comes back to the one process that may begin a pass now.
INSERT INTO reconciliation AS last (single, begun_at) VALUES (true, clock_timestamp())
ON CONFLICT (single) DO UPDATE SET begun_at = excluded.begun_at
WHERE last.begun_at <= clock_timestamp() - make_interval(secs => %(interval_s)s)
RETURNING begun_at;
