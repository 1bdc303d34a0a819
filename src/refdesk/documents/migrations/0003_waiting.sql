-- Why a document waits, and the title under which a document that nobody named is cited.

ALTER TABLE documents ADD COLUMN next_try_at timestamptz;     -- after a failed attempt, or while a part is away
ALTER TABLE documents ADD COLUMN indexing_until timestamptz;  -- as long as an indexer says that it is at work on it
ALTER TABLE documents ADD COLUMN own_title text;

-- When an indexer was last heard of: one row.
CREATE TABLE indexer_news (
    heard_at        timestamptz NOT NULL,
    one             boolean PRIMARY KEY DEFAULT true CHECK (one)
);
INSERT INTO indexer_news (heard_at) VALUES ('-infinity');

CREATE OR REPLACE VIEW current_documents AS
SELECT id, version, title, media_type, content_sha256, content_bytes, readers, tags, external_id, filename, url, owner,
       created_at, updated_at, state, indexed_version, attempts, failure, audience,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM statement_timestamp() - pending_since))::float8 END AS lag_seconds,
       id || '@' || version AS freshness_token,
       own_title
FROM documents
WHERE deleted_at IS NULL;
