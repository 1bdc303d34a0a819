-- What the database knows of the content directory.

-- name: lock_store
-- One service at a time takes a directory into use.
SELECT identity, used FROM content_store LIMIT 1 FOR UPDATE;

-- name: use_store
UPDATE content_store SET identity = %(identity)s, used = true;

-- name: newest_contents
-- Index: documents_pkey, backwards.
SELECT content_sha256 FROM documents WHERE content_sha256 IS NOT NULL ORDER BY id DESC LIMIT %(count)s;

-- name: page
-- Every content that a document refers to, in the order of hashes. Index: documents_content.
SELECT DISTINCT content_sha256 FROM documents
WHERE content_sha256 > %(after)s
ORDER BY content_sha256
LIMIT %(count)s;

-- name: missing
-- Index: missing_contents_pkey.
SELECT sha256, fault FROM missing_contents WHERE sha256 > %(after)s ORDER BY sha256 LIMIT %(count)s;

-- name: mark_missing
-- Its documents have failed, whatever an indexer has said of them. Gives their ids. Index: documents_content.
WITH noted AS (
    INSERT INTO missing_contents (sha256, fault) VALUES (%(sha256)s, %(fault)s) ON CONFLICT (sha256) DO NOTHING
), failing AS (
    UPDATE documents
    SET failed = true, failure = %(failure)s, indexed_version = NULL, pending_since = NULL, indexing_until = NULL,
        next_try_at = NULL
    WHERE content_sha256 = %(sha256)s AND deleted_at IS NULL AND NOT (state = 'failed' AND failure = %(failure)s)
    RETURNING id
)
SELECT id, pg_notify('refdesk_documents', id) FROM failing;

-- name: documents_of
-- Those that have failed and refer to these contents. Index: documents_content.
SELECT id, version FROM documents
WHERE content_sha256 = ANY(%(names)s) AND deleted_at IS NULL AND state = 'failed'
ORDER BY id
LIMIT %(count)s;

-- name: forget_missing
-- Index: missing_contents_pkey.
DELETE FROM missing_contents WHERE sha256 = ANY(%(names)s);

-- name: forget_unreferenced
-- Index: documents_content.
DELETE FROM missing_contents WHERE NOT EXISTS (SELECT 1 FROM documents WHERE content_sha256 = sha256);
