-- pgvector in this database.

-- name: look_at_vector
SELECT current_database()::text AS database,
       current_setting('server_version_num')::int / 10000 AS major,
       installed.extversion AS installed,
       available.default_version AS available,
       installed.nspname::text AS schema,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
         OR coalesce((SELECT v.trusted FROM pg_available_extension_versions v
                      WHERE v.name = 'vector' AND v.version = available.default_version), false)
            AND has_database_privilege(current_database(), 'CREATE') AS may_create,
       installed.extversion IS NULL OR to_regtype('vector') IS NOT NULL AS visible
FROM (SELECT) one
LEFT JOIN (SELECT e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
           WHERE e.extname = 'vector') installed ON true
LEFT JOIN (SELECT default_version FROM pg_available_extensions WHERE name = 'vector') available ON true
LIMIT 1;

-- name: create_vector
CREATE EXTENSION IF NOT EXISTS vector;

-- name: update_vector
ALTER EXTENSION vector UPDATE;
