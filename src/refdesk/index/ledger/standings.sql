-- What is known of documents ahead of the index. `documents` is a generation's, which comes first in the search path.

-- name: note
-- Apply-if-newer. A database that was restored counts its versions from an older one on: what happened later is newer, too.
-- With it goes what tells a restore (`lineage`). Whoever waits for news of the document is woken by the commit.
-- Index: standings_pkey.
WITH noted AS (
    INSERT INTO standings AS known (document_id, version, deleted, readers, occurred_at)
    VALUES (%(document_id)s, %(version)s, %(deleted)s, %(readers)s, %(occurred_at)s)
    ON CONFLICT (document_id) DO UPDATE
    SET version = excluded.version, deleted = excluded.deleted, readers = excluded.readers,
        occurred_at = excluded.occurred_at
    WHERE known.version < excluded.version OR known.occurred_at < excluded.occurred_at
    RETURNING document_id, version
), remembered AS (
    UPDATE lineage SET recorded = greatest(recorded, %(sequence)s), notes = notes + 1,
        newest_id = CASE WHEN newer.so THEN %(document_id)s ELSE newest_id END,
        newest_version = CASE WHEN newer.so THEN %(version)s ELSE newest_version END,
        newest_content = CASE WHEN newer.so THEN %(content_sha256)s ELSE newest_content END,
        newest_at = CASE WHEN newer.so THEN %(occurred_at)s ELSE newest_at END
    FROM (SELECT coalesce(newest_at < %(occurred_at)s, true) AS so FROM lineage FOR UPDATE) AS newer
)
SELECT pg_notify('refdesk_index', document_id || '@' || version) FROM noted

-- name: pass_over
-- An event that says nothing of access.
UPDATE lineage SET recorded = greatest(recorded, %(sequence)s)

-- name: known
-- The newer of what the record and the index say. Index: standings_pkey, documents_document_id_key.
SELECT newest.document_id, newest.version, newest.deleted, newest.readers
FROM unnest(%(document_ids)s::text[]) AS given (id)
CROSS JOIN LATERAL (
    SELECT s.document_id, s.version, s.deleted, s.readers FROM standings s WHERE s.document_id = given.id
    UNION ALL
    SELECT d.document_id, d.version, d.removed, d.readers FROM documents d
    WHERE d.document_id = given.id AND d.version >= 0
    ORDER BY version DESC, deleted DESC
    LIMIT 1
) AS newest
LIMIT cardinality(%(document_ids)s::text[])

-- name: prune
-- What the index shows by now. As many rows as changes wait. Index: documents_document_id_key.
DELETE FROM standings s USING documents d WHERE d.document_id = s.document_id AND d.version >= s.version

-- name: doubt
-- Why what is known here cannot be relied on; null: it can.
SELECT doubt FROM lineage
