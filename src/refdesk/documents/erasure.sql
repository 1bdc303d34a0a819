-- What became of a deleted document.

-- name: tombstone
-- Index: documents_pkey, outbox_document, contents_to_erase_pkey. What was told of it before its end leaves the outbox behind it.
SELECT d.id, d.version, d.owner, d.readers, d.deleted_at,
       (SELECT count(*) FROM outbox o WHERE o.document_id = d.id AND o.version < d.version) AS events,
       (SELECT count(*) FROM contents_to_erase c WHERE c.document_id = d.id) AS contents,
       (SELECT count(*) FROM contents_to_erase c JOIN documents other ON other.content_sha256 = c.sha256
         WHERE c.document_id = d.id) AS shared
FROM documents d WHERE d.id = %(id)s;

-- name: places
-- Index: erasures_pkey.
SELECT place, erased_at, removed FROM erasures WHERE document_id = %(id)s ORDER BY place LIMIT 1000;

-- name: contents_due
-- The longest waiting first; those that another document has, too, are that one's. Index: contents_to_erase_since, documents_content.
SELECT c.sha256 FROM contents_to_erase c
WHERE NOT EXISTS (SELECT 1 FROM documents WHERE content_sha256 = c.sha256)
ORDER BY c.since
LIMIT %(count)s;

-- name: contents_gone
-- Index: contents_to_erase_pkey by a scan: they are few, and gone soon.
WITH gone AS (
    DELETE FROM contents_to_erase WHERE sha256 = ANY(%(names)s) RETURNING document_id
)
INSERT INTO erasures (document_id, place, erased_at, removed)
SELECT document_id, 'content', clock_timestamp(), count(*) FROM gone GROUP BY document_id
ON CONFLICT (document_id, place)
DO UPDATE SET erased_at = excluded.erased_at, removed = erasures.removed + excluded.removed;

-- name: forget_events
-- What told of deleted documents before their end and was published after it: it has served. Index: outbox_document.
DELETE FROM outbox o USING documents d
WHERE d.id = o.document_id AND d.deleted_at > clock_timestamp() - interval '1 day' AND o.version < d.version
  AND o.published_at IS NOT NULL;
