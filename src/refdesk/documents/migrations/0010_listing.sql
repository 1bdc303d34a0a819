-- A listing in other orders than by age, and how long each step of indexing took.

ALTER TABLE documents ADD COLUMN index_seconds jsonb;   -- of the version that is indexed: seconds by step
ALTER TABLE documents ADD COLUMN indexing_step text;    -- while an indexer says that it is at work on it

CREATE INDEX documents_changed ON documents (updated_at, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_title ON documents (lower(coalesce(own_title, title)), id) WHERE deleted_at IS NULL;
CREATE INDEX documents_bytes ON documents (content_bytes, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_owner ON documents (owner, id) WHERE deleted_at IS NULL;
CREATE INDEX document_versions_content ON document_versions (content_sha256);

CREATE OR REPLACE VIEW current_documents AS
SELECT id, version, title, media_type, content_sha256, content_bytes, readers, tags, external_id, filename, url, owner,
       created_at, updated_at, state, indexed_version, attempts, failure, audience,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM statement_timestamp() - pending_since))::float8 END AS lag_seconds,
       id || '@' || version AS freshness_token,
       own_title, notes,
       CASE WHEN state = 'indexed' THEN index_seconds END AS index_seconds,
       CASE WHEN state = 'pending' AND indexing_until > statement_timestamp() THEN indexing_step END AS indexing_step
FROM documents
WHERE deleted_at IS NULL;
