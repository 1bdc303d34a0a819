-- People who signed in with an identity provider. Of a session's cookie only the hash is kept, and the provider's tokens only as
-- the cookie's value can read them: who has this table has neither.

CREATE TABLE sessions (
    id text PRIMARY KEY DEFAULT 's' || replace(gen_random_uuid()::text, '-', ''),
    cookie_sha256 bytea NOT NULL UNIQUE,
    issuer text NOT NULL,
    subject text NOT NULL,
    provider_session text,
    principal_id text NOT NULL,
    name text NOT NULL,
    groups text[] NOT NULL,
    role text NOT NULL,
    sealed_tokens bytea NOT NULL,
    renewable boolean NOT NULL,
    browser text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    seen_at timestamptz NOT NULL DEFAULT now(),
    confirmed_at timestamptz NOT NULL DEFAULT now(),
    asking_until timestamptz NOT NULL DEFAULT '-infinity',
    expires_at timestamptz NOT NULL
);
COMMENT ON COLUMN sessions.confirmed_at IS 'when the provider last said who this is';
COMMENT ON COLUMN sessions.asking_until IS 'until when one process alone asks it again';
CREATE INDEX sessions_of_principal ON sessions (principal_id, created_at);
CREATE INDEX sessions_of_subject ON sessions (issuer, subject);
CREATE INDEX sessions_of_provider_session ON sessions (issuer, provider_session);
CREATE INDEX sessions_by_end ON sessions (expires_at);

-- Logout tokens that were used, until they would be refused for their age.
CREATE TABLE spent_logout_tokens (
    id_sha256 bytea PRIMARY KEY,
    expires_at timestamptz NOT NULL
);
CREATE INDEX spent_logout_tokens_by_end ON spent_logout_tokens (expires_at);

-- What ends a session, or changes its rights, is told to every process at once, as a change of keys is.
CREATE TRIGGER sessions_announced AFTER DELETE OR TRUNCATE ON sessions
    FOR EACH STATEMENT EXECUTE FUNCTION announce_key();
CREATE TRIGGER session_changes_announced AFTER UPDATE ON sessions FOR EACH ROW
    WHEN ((OLD.name, OLD.groups, OLD.role) IS DISTINCT FROM (NEW.name, NEW.groups, NEW.role))
    EXECUTE FUNCTION announce_key();
