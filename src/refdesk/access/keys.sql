-- name: create_key
-- The database makes the principal's id where none is given.
INSERT INTO api_keys (id, name, groups, role, key_sha256, holder, expires_at, principal_id)
VALUES (%(id)s, %(name)s, %(groups)s, %(role)s, %(key_sha256)s, %(holder)s, %(expires_at)s,
        coalesce(%(principal_id)s::text, 'k' || replace(gen_random_uuid()::text, '-', '')))
ON CONFLICT DO NOTHING
RETURNING principal_id, name, groups, role, holder, created_at, expires_at, NULL::timestamptz, NULL::timestamptz;

-- name: rotate_key
-- By the unique index on name. Where no end is given, the new key lives as long as the one before was to. The grace does not bring
-- an expired key back.
UPDATE api_keys
SET id = %(id)s, key_sha256 = %(key_sha256)s, created_at = now(),
    expires_at = coalesce(%(expires_at)s::timestamptz, now() + (expires_at - created_at)),
    previous_id = CASE WHEN %(grace_s)s::float8 > 0 THEN id END,
    previous_sha256 = CASE WHEN %(grace_s)s::float8 > 0 THEN key_sha256 END,
    previous_until = CASE WHEN %(grace_s)s::float8 > 0
                     THEN least(now() + make_interval(secs => %(grace_s)s::float8), expires_at) END
WHERE name = %(name)s
RETURNING principal_id, name, groups, role, holder, created_at, expires_at, NULL::timestamptz, previous_until;

-- name: find_key
-- By primary key, and by the unique index on the key before.
SELECT principal_id, name, groups, role, key_sha256 FROM api_keys
WHERE id = %(id)s AND (expires_at IS NULL OR expires_at > now())
UNION ALL
SELECT principal_id, name, groups, role, previous_sha256 FROM api_keys
WHERE previous_id = %(id)s AND previous_until > now()
LIMIT 1;

-- name: find_keys
-- By primary key, and by the unique index on the key before.
SELECT id, principal_id, name, groups, role FROM api_keys
WHERE id = ANY(%(ids)s) AND (expires_at IS NULL OR expires_at > now())
UNION ALL
SELECT previous_id, principal_id, name, groups, role FROM api_keys
WHERE previous_id = ANY(%(ids)s) AND previous_until > now()
LIMIT 2 * cardinality(%(ids)s::text[]);

-- name: find_named
-- By the unique index on name.
SELECT principal_id FROM api_keys WHERE name = %(name)s;

-- name: any_key
-- Expired ones, too: a desk whose keys have all run out is not open to everybody.
SELECT EXISTS (SELECT 1 FROM api_keys LIMIT 1);

-- name: list_keys
-- By the unique index on name.
SELECT principal_id, name, groups, role, holder, created_at, expires_at, used_at,
       CASE WHEN previous_until > now() THEN previous_until END
FROM api_keys LEFT JOIN api_key_uses USING (name)
ORDER BY name LIMIT 1000;

-- name: lock_key
-- By the unique index on name.
SELECT principal_id, name, groups, role, holder, created_at, expires_at, NULL::timestamptz,
       CASE WHEN previous_until > now() THEN previous_until END
FROM api_keys WHERE name = %(name)s FOR UPDATE;

-- name: change_key
-- By the unique index on name.
UPDATE api_keys SET groups = %(groups)s, role = %(role)s, expires_at = %(expires_at)s WHERE name = %(name)s;

-- name: revoke_key
-- By the unique index on name.
DELETE FROM api_keys WHERE name = %(name)s RETURNING id;

-- name: note_uses
-- Of keys that are still there, in the order of their names: two processes cannot wait for each other.
INSERT INTO api_key_uses (name, used_at)
SELECT name, used.used_at
FROM unnest(%(names)s::text[], %(times)s::timestamptz[]) AS used (name, used_at) JOIN api_keys USING (name)
ORDER BY name
ON CONFLICT (name) DO UPDATE SET used_at = greatest(api_key_uses.used_at, excluded.used_at);
