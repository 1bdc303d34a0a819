-- name: create_key
INSERT INTO api_keys (id, name, groups, key_sha256)
VALUES (%(id)s, %(name)s, %(groups)s, %(key_sha256)s)
ON CONFLICT (name) DO NOTHING
RETURNING created_at;

-- name: find_key
-- By primary key.
SELECT name, groups, key_sha256 FROM api_keys WHERE id = %(id)s;

-- name: any_key
SELECT EXISTS (SELECT 1 FROM api_keys LIMIT 1);

-- name: list_keys
-- By the unique index on name.
SELECT id, name, groups, created_at FROM api_keys ORDER BY name LIMIT 1000;

-- name: revoke_key
-- By the unique index on name.
DELETE FROM api_keys WHERE name = %(name)s RETURNING id;
