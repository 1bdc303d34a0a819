-- What whoever relies on a document should know about how the version that is indexed was read.

ALTER TABLE documents ADD COLUMN notes jsonb NOT NULL DEFAULT '[]';

CREATE OR REPLACE VIEW current_documents AS
SELECT id, version, title, media_type, content_sha256, content_bytes, readers, tags, external_id, filename, url, owner,
       created_at, updated_at, state, indexed_version, attempts, failure, audience,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM statement_timestamp() - pending_since))::float8 END AS lag_seconds,
       id || '@' || version AS freshness_token,
       own_title, notes
FROM documents
WHERE deleted_at IS NULL;
