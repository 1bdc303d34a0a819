-- What is known of documents ahead of the index. `documents` is a generation's, which comes first in the search path.

-- name: note
-- Apply-if-newer. A database that was restored counts its versions from an older one on: what happened later is newer, too.
-- Whoever waits for news of the document is woken by the commit. Index: standings_pkey.
WITH noted AS (
    INSERT INTO standings AS known (document_id, version, deleted, readers, occurred_at)
    VALUES (%(document_id)s, %(version)s, %(deleted)s, %(readers)s, %(occurred_at)s)
    ON CONFLICT (document_id) DO UPDATE
    SET version = excluded.version, deleted = excluded.deleted, readers = excluded.readers,
        occurred_at = excluded.occurred_at
    WHERE known.version < excluded.version OR known.occurred_at < excluded.occurred_at
    RETURNING document_id, version
)
SELECT pg_notify('refdesk_index', document_id || '@' || version) FROM noted

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
