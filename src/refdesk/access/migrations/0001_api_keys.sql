CREATE TABLE api_keys (
    id text PRIMARY KEY,
    name text NOT NULL UNIQUE,
    groups text[] NOT NULL,
    key_sha256 bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
