-- name: add_entries
INSERT INTO audit_log (at, principal_id, principal_name, how, action, did, object_id, result, request_id, address)
SELECT * FROM unnest(%(at)s::timestamptz[], %(principal_id)s::text[], %(principal_name)s::text[], %(how)s::text[],
                     %(action)s::text[], %(did)s::text[], %(object_id)s::text[], %(result)s::text[],
                     %(request_id)s::text[], %(address)s::text[]);

-- name: newest
-- Newest first. Index: audit_log_pkey backwards, audit_log_principal or audit_log_object where one is named.
SELECT id, at, principal_id, principal_name, how, action, did, object_id, result, request_id, address FROM audit_log
WHERE (%(before)s::bigint IS NULL OR id < %(before)s)
  AND (%(principal)s::text IS NULL OR principal_id = %(principal)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(object)s::text IS NULL OR object_id = %(object)s)
  AND (%(result)s::text IS NULL OR result = %(result)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
ORDER BY id DESC
LIMIT %(count)s;

-- name: oldest
-- The same from the other end, for copies of all of it.
SELECT id, at, principal_id, principal_name, how, action, did, object_id, result, request_id, address FROM audit_log
WHERE id > %(after)s
  AND (%(principal)s::text IS NULL OR principal_id = %(principal)s)
  AND (%(action)s::text IS NULL OR action = %(action)s)
  AND (%(object)s::text IS NULL OR object_id = %(object)s)
  AND (%(result)s::text IS NULL OR result = %(result)s)
  AND (%(since)s::timestamptz IS NULL OR at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR at < %(until)s)
ORDER BY id
LIMIT %(count)s;

-- name: allow_forgetting
-- For this transaction.
SELECT set_config('refdesk.retention', 'on', true);

-- name: forget
-- Index: audit_log_at.
DELETE FROM audit_log
WHERE id IN (SELECT id FROM audit_log WHERE at < now() - make_interval(days => %(days)s) ORDER BY at LIMIT %(count)s);
