-- The Document Service's queries. `readers` is the asker's scope, `everything` lifts it; both stand inside every read.
-- `waiting` is explained for pending documents only, and the front of the queue is looked up once, if any of them is.

-- name: insert_document
INSERT INTO documents (id, version, title, media_type, content_sha256, content_bytes, readers, tags, external_id,
                       filename, url, owner, pending_since)
VALUES (%(id)s, 1, %(title)s, %(media_type)s, %(content_sha256)s, %(content_bytes)s, %(readers)s, %(tags)s,
        %(external_id)s, %(filename)s, %(url)s, %(owner)s, clock_timestamp())
RETURNING *;

-- name: lock_document
-- Index: documents_pkey. Writers of one document queue up here.
SELECT * FROM documents
WHERE id = %(id)s AND deleted_at IS NULL AND (%(everything)s OR audience && %(readers)s)
FOR UPDATE;

-- name: replace_document
UPDATE documents
SET version = version + 1, title = %(title)s, media_type = %(media_type)s, content_sha256 = %(content_sha256)s,
    content_bytes = %(content_bytes)s, readers = %(readers)s, tags = %(tags)s, external_id = %(external_id)s,
    filename = %(filename)s, url = %(url)s, updated_at = clock_timestamp(),
    failed = false, attempts = 0, failure = NULL, next_try_at = NULL, indexing_until = NULL,
    own_title = CASE WHEN title = %(title)s THEN own_title END,
    pending_since = CASE WHEN state = 'pending' THEN pending_since ELSE clock_timestamp() END
WHERE id = %(id)s
RETURNING *;

-- name: bury_document
-- The tombstone keeps readers and owner: those who could read it are told that it is gone.
UPDATE documents
SET version = version + 1, title = '', content_sha256 = NULL, content_bytes = 0, tags = '{}', external_id = NULL,
    filename = NULL, url = NULL, updated_at = clock_timestamp(), deleted_at = clock_timestamp(),
    failed = false, attempts = 0, failure = NULL, next_try_at = NULL, indexing_until = NULL, own_title = NULL, notes = '[]',
    pending_since = CASE WHEN state = 'pending' THEN pending_since ELSE clock_timestamp() END
WHERE id = %(id)s
RETURNING *;

-- name: forget_versions
-- Index: document_versions_pkey.
DELETE FROM document_versions WHERE document_id = %(id)s;

-- name: retry_document
UPDATE documents
SET failed = false, attempts = 0, failure = NULL, next_try_at = NULL,
    pending_since = CASE WHEN state = 'failed' THEN clock_timestamp() ELSE pending_since END
WHERE id = %(id)s
RETURNING *;

-- name: retell_documents
-- Those that still are at the version given, tombstones too: on their way into the index again, in the trace of the change.
-- Locked in the order of their ids, so that two callers cannot wait for each other. Index: documents_pkey, outbox_document.
WITH told AS (
    SELECT d.id FROM documents d
    JOIN unnest(%(ids)s::text[], %(versions)s::bigint[]) AS given (id, version) USING (id, version)
    ORDER BY d.id
    LIMIT cardinality(%(ids)s::text[])
    FOR UPDATE OF d
)
UPDATE documents d
SET indexed_version = NULL, failed = false, attempts = 0, failure = NULL, next_try_at = NULL,
    pending_since = coalesce(pending_since, clock_timestamp())
FROM told WHERE d.id = told.id
RETURNING d.*, (
    SELECT o.traceparent FROM outbox o WHERE o.document_id = d.id AND o.version = d.version ORDER BY o.id DESC LIMIT 1
) AS traceparent;

-- name: record_version
INSERT INTO document_versions (document_id, version, change, title, media_type, content_sha256, content_bytes, readers,
                               changed_by, occurred_at)
VALUES (%(id)s, %(version)s, %(change)s, %(title)s, %(media_type)s, coalesce(%(content_sha256)s, ''),
        %(content_bytes)s, %(readers)s, %(changed_by)s, %(updated_at)s);

-- name: announce
-- Wakes relays and event streams when (and only if) the transaction commits.
SELECT pg_notify('refdesk_outbox', ''), pg_notify('refdesk_documents', %(id)s);

-- name: serialise_external_id
-- One writer at a time decides whether an owner's external id is there already.
SELECT pg_advisory_xact_lock(hashtextextended(%(owner)s || ' ' || %(external_id)s, 0));

-- name: find_external_id
-- Index: documents_external_id.
SELECT id FROM current_documents WHERE external_id = %(external_id)s AND owner = %(owner)s;

-- name: read_document
-- Index: documents_pkey.
SELECT *, CASE WHEN state = 'pending' THEN explain_waiting(
           id, (SELECT front_of_queue(%(counted_max)s)), %(publish_s_max)s, %(silence_s_max)s) END AS waiting
FROM current_documents
WHERE id = %(id)s AND (%(everything)s OR audience && %(readers)s);

-- name: read_written
-- What a write has left, for its reply. Index: documents_pkey.
SELECT * FROM current_documents WHERE id = %(id)s;

-- name: list_external
-- What an owner has under the external ids of a prefix, in the order of code points. Index: documents_external_id_order.
SELECT *, CASE WHEN state = 'pending' THEN explain_waiting(
           id, (SELECT front_of_queue(%(counted_max)s)), %(publish_s_max)s, %(silence_s_max)s) END AS waiting
FROM current_documents
WHERE external_id COLLATE "C" > %(after)s AND external_id COLLATE "C" < %(below)s AND owner = %(owner)s
ORDER BY external_id COLLATE "C"
LIMIT %(count)s;

-- name: list_versions
-- Newest first; of a document that may be read now, those versions that could be read by the same scope. The owner could read
-- all of them. Index: document_versions_pkey.
SELECT v.* FROM document_versions v JOIN current_documents d ON d.id = v.document_id
WHERE d.id = %(id)s
  AND (%(everything)s OR (d.audience && %(readers)s AND (v.readers || ('principal:' || d.owner)) && %(readers)s))
ORDER BY v.version DESC
LIMIT %(count)s;

-- name: standing
-- One row at least, for the lag. `known`: the content that the caller has of it is this document's, or was before its version;
-- a backup that was restored knows nothing of what came after it. (Not by the version alone: documents that were restored count
-- to it anew, and the index lowers the version it claims of what it is to apply again.) Index: documents_pending for the lag,
-- documents_pkey for the documents, document_versions_pkey for what was.
SELECT d.id AS document_id, d.version, d.title, lag.oldest, clock_timestamp() AS now,
       (SELECT epoch FROM document_epoch) AS epoch,
       seen.version IS NULL OR seen.content_sha256 = d.content_sha256 OR (seen.version < d.version AND EXISTS (
           SELECT 1 FROM document_versions v WHERE v.document_id = d.id AND v.content_sha256 = seen.content_sha256
       )) AS known
FROM (SELECT min(pending_since) AS oldest FROM documents WHERE state = 'pending') lag
LEFT JOIN current_documents d
       ON d.id = ANY(%(document_ids)s) AND (%(everything)s OR d.audience && %(readers)s)
LEFT JOIN unnest(%(seen_ids)s::text[], %(seen_versions)s::bigint[], %(seen_contents)s::text[])
       AS seen (document_id, version, content_sha256) ON seen.document_id = d.id
LIMIT %(count)s;

-- name: manifest_page
-- Every document, tombstones too, in the order of ids. Index: documents_pkey.
SELECT id AS document_id, version, deleted_at IS NOT NULL AS deleted, state, title, media_type, filename, url,
       readers, owner, tags, external_id, updated_at,
       coalesce(content_sha256, '') AS content_sha256,
       greatest(0, extract(epoch FROM clock_timestamp() - updated_at))::float8 AS changed_seconds_ago,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM clock_timestamp() - pending_since))::float8 END AS pending_seconds
FROM documents
WHERE id > %(after)s
ORDER BY id
LIMIT %(count)s;

-- name: manifest_of
-- The same of documents that are named. Index: documents_pkey.
SELECT id AS document_id, version, deleted_at IS NOT NULL AS deleted, state, title, media_type, filename, url,
       readers, owner, tags, external_id, updated_at,
       coalesce(content_sha256, '') AS content_sha256,
       greatest(0, extract(epoch FROM clock_timestamp() - updated_at))::float8 AS changed_seconds_ago,
       CASE WHEN state = 'pending'
            THEN greatest(0, extract(epoch FROM clock_timestamp() - pending_since))::float8 END AS pending_seconds
FROM documents
WHERE id = ANY(%(document_ids)s)
ORDER BY id
LIMIT %(count)s;

-- name: backlog
-- Index: outbox_pending (ids sort by time), documents_pending, documents_state.
SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS outbox_pending,
       coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - created_at))::float8
          FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1), 0) AS outbox_oldest_age_seconds,
       (SELECT count(*) FROM current_documents WHERE state = 'indexed') AS documents_indexed,
       (SELECT count(*) FROM documents WHERE state = 'pending') AS documents_pending,
       (SELECT count(*) FROM current_documents WHERE state = 'failed') AS documents_failed,
       (SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(pending_since))), 0)::float8
          FROM documents WHERE state = 'pending') AS index_lag_seconds,
       (SELECT count(*) FROM missing_contents) AS contents_missing;

-- name: measures
-- Index: outbox_pending (ids sort by time), documents_pending, documents_state.
SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS outbox_pending,
       coalesce((SELECT greatest(0, extract(epoch FROM clock_timestamp() - created_at))::float8
          FROM outbox WHERE published_at IS NULL ORDER BY id LIMIT 1), 0) AS outbox_oldest_age_seconds,
       (SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(pending_since))), 0)::float8
          FROM documents WHERE state = 'pending') AS index_lag_seconds,
       (SELECT count(*) FROM missing_contents) AS contents_missing,
       (SELECT count(*) FROM documents WHERE state = 'indexed' AND deleted_at IS NULL) AS indexed,
       (SELECT count(*) FROM documents WHERE state = 'pending') AS pending,
       (SELECT count(*) FROM documents WHERE state = 'failed' AND deleted_at IS NULL) AS failed;

-- name: changed_documents
-- For event streams: what became of these documents, deleted ones included, and who could read the version before.
-- The streams filter by scope. Index: documents_pkey, document_versions_pkey.
SELECT d.id AS changed_id, d.audience AS audience_now, coalesce(before.readers, '{}') AS readers_before, v.*,
       CASE WHEN v.state = 'pending' THEN explain_waiting(
           v.id, (SELECT front_of_queue(%(counted_max)s)), %(publish_s_max)s, %(silence_s_max)s) END AS waiting
FROM documents d
LEFT JOIN current_documents v ON v.id = d.id
LEFT JOIN document_versions before ON before.document_id = d.id AND before.version = d.version - 1
WHERE d.id = ANY(%(ids)s)
LIMIT %(count)s;

-- name: unreferenced_content
-- The contents of a document's last versions are kept, so that they can be compared. Index: documents_content,
-- document_versions_content.
SELECT name FROM unnest(%(names)s::text[]) AS name
WHERE NOT EXISTS (SELECT 1 FROM documents WHERE content_sha256 = name)
  AND NOT EXISTS (SELECT 1 FROM document_versions v JOIN current_documents d ON d.id = v.document_id
                   WHERE v.content_sha256 = name AND v.version > d.version - %(versions_kept)s)
LIMIT %(count)s;

-- name: hear_of_indexer
-- An indexer lives. Written once a second at most, so that events do not queue up for one row. Index: indexer_news_pkey.
UPDATE indexer_news SET heard_at = clock_timestamp() WHERE heard_at < clock_timestamp() - interval '1 second';

-- name: apply_started
-- About the current version only, and only for so long as it is said again. Index: documents_pkey.
WITH applied AS (
    UPDATE documents
    SET indexing_until = clock_timestamp() + make_interval(secs => %(lease_s)s), indexing_step = %(step)s, next_try_at = NULL
    WHERE id = %(document_id)s AND version = %(version)s AND state = 'pending'
    RETURNING id, deleted_at
)
SELECT pg_notify('refdesk_documents', id) FROM applied WHERE deleted_at IS NULL;

-- name: apply_indexed
-- Apply-if-newer. What is still pending after an older version was applied is pending since the change after it.
-- Gives how long the oldest change that is searchable now has waited. Index: documents_pkey, document_versions_pkey.
WITH before AS (
    SELECT id, pending_since FROM documents WHERE id = %(document_id)s FOR UPDATE
), applied AS (
    UPDATE documents d
    SET indexed_version = %(version)s,
        failed = failed AND %(version)s < d.version,
        failure = CASE WHEN %(version)s < d.version THEN failure END,
        next_try_at = CASE WHEN %(version)s < d.version THEN next_try_at END,
        indexing_until = CASE WHEN %(version)s < d.version THEN indexing_until END,
        own_title = CASE WHEN %(version)s < d.version THEN own_title
                         ELSE nullif(coalesce(%(title)s, own_title), d.title) END,
        notes = coalesce(%(notes)s::jsonb, d.notes),
        index_seconds = CASE WHEN %(version)s < d.version THEN index_seconds ELSE coalesce(%(seconds)s::jsonb, '{}') || jsonb_build_object(
            'total', greatest(0, extract(epoch FROM clock_timestamp() - before.pending_since))) END,
        pending_since = CASE WHEN %(version)s < d.version THEN coalesce(
            (SELECT v.occurred_at FROM document_versions v
              WHERE v.document_id = d.id AND v.version = %(version)s + 1), d.updated_at) END
    FROM before
    WHERE d.id = before.id AND %(version)s <= d.version
      AND (indexed_version IS NULL OR indexed_version < %(version)s)
    RETURNING d.id, d.deleted_at,
              greatest(0, extract(epoch FROM clock_timestamp() - before.pending_since))::float8 AS waited_s
)
SELECT waited_s, CASE WHEN deleted_at IS NULL THEN pg_notify('refdesk_documents', id) END FROM applied;

-- name: apply_erased
-- Index: documents_pkey, erasures_pkey.
INSERT INTO erasures (document_id, place, erased_at, removed)
SELECT d.id, told.place, %(erased_at)s, told.removed
FROM documents d, unnest(%(places)s::text[], %(removed)s::bigint[]) AS told (place, removed)
WHERE d.id = %(document_id)s AND d.deleted_at IS NOT NULL
ON CONFLICT (document_id, place) DO UPDATE SET removed = greatest(erasures.removed, excluded.removed), erased_at = greatest(erasures.erased_at, excluded.erased_at)
RETURNING 1;

-- name: apply_failed
-- About the current version only, and never after it was applied. Index: documents_pkey.
WITH applied AS (
    UPDATE documents
    SET attempts = greatest(attempts, %(attempts)s), failure = %(reason)s, failed = failed OR %(final)s,
        indexing_until = NULL,
        next_try_at = CASE WHEN NOT (failed OR %(final)s) THEN clock_timestamp() + make_interval(secs => %(next_try_s)s) END,
        pending_since = CASE WHEN failed OR %(final)s THEN NULL ELSE pending_since END
    WHERE id = %(document_id)s AND version = %(version)s
      AND (indexed_version IS NULL OR indexed_version < %(version)s)
    RETURNING id, deleted_at
)
SELECT pg_notify('refdesk_documents', id) FROM applied WHERE deleted_at IS NULL;
