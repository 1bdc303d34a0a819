-- When a key expires, whose it is, what it takes the place of, and when it was last used. The release before this one reads none
-- of it: to that one a key does not expire, and a rotated one stops at once.

ALTER TABLE api_keys
    ADD COLUMN expires_at timestamptz,
    ADD COLUMN holder text NOT NULL DEFAULT 'person' CHECK (holder IN ('person', 'service')),
    -- The key before the last rotation, for as long as it still opens.
    ADD COLUMN previous_id text,
    ADD COLUMN previous_sha256 bytea,
    ADD COLUMN previous_until timestamptz;
CREATE UNIQUE INDEX api_keys_previous ON api_keys (previous_id) WHERE previous_id IS NOT NULL;

-- A principal may have several keys.
DROP INDEX api_keys_principal;
CREATE INDEX api_keys_of_principal ON api_keys (principal_id);

-- Beside the keys, since a change of those is announced to every process.
CREATE TABLE api_key_uses (
    name text PRIMARY KEY REFERENCES api_keys (name) ON DELETE CASCADE,
    used_at timestamptz NOT NULL
);
