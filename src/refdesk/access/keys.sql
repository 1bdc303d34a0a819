-- name: create_key
-- The database makes the principal's id.
INSERT INTO api_keys (id, name, groups, role, key_sha256)
VALUES (%(id)s, %(name)s, %(groups)s, %(role)s, %(key_sha256)s)
ON CONFLICT DO NOTHING
RETURNING principal_id, name, groups, role, created_at;

-- name: rotate_key
-- By the unique index on name.
UPDATE api_keys SET id = %(id)s, key_sha256 = %(key_sha256)s, created_at = now()
WHERE name = %(name)s
RETURNING principal_id, name, groups, role, created_at;

-- name: find_key
-- By primary key.
SELECT principal_id, name, groups, role, key_sha256 FROM api_keys WHERE id = %(id)s;

-- name: find_keys
-- By primary key.
SELECT id, principal_id, name, groups, role FROM api_keys WHERE id = ANY(%(ids)s) LIMIT cardinality(%(ids)s::text[]);

-- name: find_named
-- By the unique index on name.
SELECT principal_id FROM api_keys WHERE name = %(name)s;

-- name: any_key
SELECT EXISTS (SELECT 1 FROM api_keys LIMIT 1);

-- name: list_keys
-- By the unique index on name.
SELECT principal_id, name, groups, role, created_at FROM api_keys ORDER BY name LIMIT 1000;

-- name: lock_key
-- By the unique index on name.
SELECT principal_id, name, groups, role, created_at FROM api_keys WHERE name = %(name)s FOR UPDATE;

-- name: change_key
-- By the unique index on name.
UPDATE api_keys SET groups = %(groups)s, role = %(role)s WHERE name = %(name)s;

-- name: revoke_key
-- By the unique index on name.
DELETE FROM api_keys WHERE name = %(name)s RETURNING id;
