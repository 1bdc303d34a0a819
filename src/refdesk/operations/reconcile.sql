-- name: claim_pass
-- One row; it comes back to the one process that may begin a pass now. A pass that began later than now shows that the clock was
-- set back: it is not waited for.
INSERT INTO reconciliation AS last (single, begun_at) VALUES (true, clock_timestamp())
ON CONFLICT (single) DO UPDATE SET begun_at = excluded.begun_at
WHERE last.begun_at NOT BETWEEN clock_timestamp() - make_interval(secs => %(interval_s)s) AND clock_timestamp()
RETURNING begun_at;
