-- A principal is an id. Keys that were made before keep their name as id, so that what they own stays theirs; new ones get an
-- id that nobody had before, so that a name given again inherits nothing.

ALTER TABLE api_keys ADD COLUMN principal_id text;
UPDATE api_keys SET principal_id = name;
ALTER TABLE api_keys ALTER COLUMN principal_id SET NOT NULL;
ALTER TABLE api_keys ALTER COLUMN principal_id SET DEFAULT 'k' || replace(gen_random_uuid()::text, '-', '');
CREATE UNIQUE INDEX api_keys_principal ON api_keys (principal_id);

ALTER TABLE api_keys ADD COLUMN role text NOT NULL DEFAULT 'writer' CHECK (role IN ('asker', 'writer'));

-- Whatever changes a key, by whatever way, tells every process at once.
CREATE FUNCTION announce_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('refdesk_keys', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER api_keys_announced AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON api_keys
    FOR EACH STATEMENT EXECUTE FUNCTION announce_key();
