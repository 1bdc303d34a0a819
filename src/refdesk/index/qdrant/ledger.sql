-- The ledger of a generation in Qdrant: which revision of a document is searchable. Tables are those of the generation's schema
-- (`generations.enter`). A revision is the points that one change has written; points are never changed, save who may read them.

-- name: begin_search
-- All that follows sees one state of the ledger.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: add_unborn
-- The row of a document that is about to come for the first time: of no version, -1, and removed as far as anybody sees.
INSERT INTO documents (document_id, version, removed) VALUES (%(document_id)s, -1, true)
ON CONFLICT (document_id) DO NOTHING

-- name: claim
-- The revision is known from here on, whatever happens. Index: documents_document_id_key.
INSERT INTO revisions (revision, document_key, past)
SELECT %(revision)s, key, false FROM documents WHERE document_id = %(document_id)s

-- name: lock_older
-- Apply-if-newer: no row comes back when the index has this version or a later one. The same version with other content is
-- newer, too: documents that were restored from a backup have counted to that number anew (a tombstone has no content).
-- The lock makes one of several processes with the same document work, and the others wait. Index: documents_document_id_key.
SELECT key, removed, chunks, terms, revision, outline, readers, tags, sources, changed_on FROM documents
WHERE document_id = %(document_id)s
  AND (version < %(version)s
       OR version = %(version)s AND '' NOT IN (content_sha256, %(content_sha256)s)
          AND content_sha256 <> %(content_sha256)s)
FOR NO KEY UPDATE

-- name: flip
-- Index: documents_pkey.
UPDATE documents
SET version = %(version)s, removed = %(removed)s, title = %(title)s, readers = %(readers)s, tags = %(tags)s,
    sources = %(sources)s, changed_on = %(changed_on)s,
    media_type = %(media_type)s, url = %(url)s, content_sha256 = %(content_sha256)s, notes = %(notes)s::jsonb,
    chunks = %(chunks)s, terms = %(terms)s, revision = %(revision)s, outline = %(outline)s, applied_at = now()
WHERE key = %(key)s

-- name: arrive
-- A revision is no longer being written. No row comes back when it was given up as left by a crash. Index: revisions_pkey.
DELETE FROM revisions WHERE revision = %(revision)s AND NOT past RETURNING revision

-- name: retire
-- From now on no search that begins sees this revision. Index: revisions_pkey.
INSERT INTO revisions (revision, document_key, past) VALUES (%(revision)s, %(key)s, true)
ON CONFLICT (revision) DO UPDATE SET past = true, since = clock_timestamp()

-- name: give_up
-- Those whose writer has died: nobody holds their document, for a while now. Index: revisions_since, documents_pkey.
UPDATE revisions r SET past = true, since = clock_timestamp()
FROM (SELECT d.key FROM documents d
      WHERE d.key IN (SELECT document_key FROM revisions
                      WHERE NOT past AND since < clock_timestamp() - make_interval(secs => %(after_s)s))
      LIMIT %(count)s FOR NO KEY UPDATE SKIP LOCKED) AS idle
WHERE r.document_key = idle.key AND NOT r.past
  AND r.since < clock_timestamp() - make_interval(secs => %(after_s)s)

-- name: past
-- Revisions that no search sees any more. Two processes take different ones. Index: revisions_since.
SELECT revision FROM revisions
WHERE past AND since < clock_timestamp() - make_interval(secs => %(after_s)s)
ORDER BY since LIMIT %(count)s FOR UPDATE SKIP LOCKED

-- name: forget
-- Their points are deleted. Index: revisions_pkey.
DELETE FROM revisions WHERE revision = ANY (%(revisions)s::bigint[])

-- name: lock_version
-- The document, if it still is what this change has made of it. Index: documents_pkey.
SELECT key FROM documents WHERE key = %(key)s AND version = %(version)s AND revision = %(revision)s FOR NO KEY UPDATE

-- name: stage
INSERT INTO staged (document_key, hash, vector)
SELECT %(key)s, s.* FROM unnest(%(hashes)s::bytea[], %(vectors)s::bytea[]) AS s (hash, vector)
ON CONFLICT (document_key, hash) DO NOTHING

-- name: delete_staged
-- Index: staged_pkey.
DELETE FROM staged WHERE document_key = %(key)s

-- name: staged_vectors
-- Index: documents_document_id_key, staged_pkey.
SELECT s.hash, s.vector FROM documents d JOIN staged s ON s.document_key = d.key
WHERE d.document_id = %(document_id)s LIMIT %(chunks_max)s

-- name: delete_terms
-- Index: document_terms_document.
DELETE FROM document_terms WHERE document_key = %(key)s

-- name: insert_terms
INSERT INTO document_terms (document_key, term, chunks)
SELECT %(key)s, t.* FROM unnest(%(terms)s::text[], %(chunks)s::integer[]) AS t (term, chunks)

-- name: analyse
-- The terms of each text in order, with how often it has each: one row per text that has any.
SELECT given.place - 1, array_agg(t.lexeme), array_agg(least(cardinality(t.positions), 255)),
       sum(cardinality(t.positions))::bigint
FROM unnest(%(texts)s::text[]) WITH ORDINALITY AS given (text, place)
CROSS JOIN LATERAL unnest(to_tsvector(%(text_search)s::regconfig, given.text)) AS t
GROUP BY given.place LIMIT cardinality(%(texts)s::text[])

-- name: admit
-- Of the points that Qdrant has found, the documents that are searchable in this revision and readable in this scope.
-- Index: documents_revision_key.
SELECT d.revision, d.key, d.document_id, d.version, d.content_sha256, d.title, d.url
FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
WHERE d.revision = ANY (%(revisions)s::bigint[])
LIMIT cardinality(%(revisions)s::bigint[])

-- name: searchable
-- One document as it is searchable now. Index: documents_document_id_key.
SELECT d.document_id, d.version, d.title, d.readers, d.tags, d.sources, d.changed_on, d.media_type, d.url,
       d.content_sha256, d.revision, d.chunks
FROM readable(%(everything)s, %(readers)s, %(document_ids)s, NULL) d LIMIT 1

-- name: current
-- The revision of a document, and how many points it has. Index: documents_document_id_key.
SELECT revision, chunks FROM documents WHERE document_id = %(document_id)s AND revision IS NOT NULL

-- name: page
-- In the order of ids; not what is only staged. Index: documents_document_id_key.
SELECT document_id, version, removed, readers, tags, content_sha256, revision, chunks FROM documents
WHERE document_id > %(after)s AND version >= 0
ORDER BY document_id LIMIT %(count)s

-- name: of
-- The same of documents that are named. Index: documents_document_id_key.
SELECT document_id, version, removed, readers, tags, content_sha256, revision, chunks FROM documents
WHERE document_id = ANY (%(document_ids)s) AND version >= 0
LIMIT cardinality(%(document_ids)s::text[])

-- name: known_revisions
-- Which of these the ledger knows, searchable or not. Index: documents_revision_key, revisions_pkey.
SELECT revision FROM documents WHERE revision = ANY (%(revisions)s::bigint[])
UNION ALL
SELECT revision FROM revisions WHERE revision = ANY (%(revisions)s::bigint[])
LIMIT 2 * cardinality(%(revisions)s::bigint[])

-- name: adopt
-- Revisions that nobody knows of: the ledger was restored from a backup, or their writer outlived its claim. They are deleted
-- like past ones. Index: documents_document_id_key.
INSERT INTO revisions (revision, document_key, past)
SELECT o.revision, d.key, true
FROM unnest(%(revisions)s::bigint[], %(document_ids)s::text[]) AS o (revision, document_id)
JOIN documents d ON d.document_id = o.document_id
ON CONFLICT (revision) DO NOTHING

-- name: reopen
-- Only as it was seen: a version that was applied meanwhile stays. Index: documents_document_id_key.
UPDATE documents SET version = %(version)s, readers = %(readers)s
WHERE document_id = %(document_id)s AND version = %(seen_version)s
RETURNING key, revision

-- name: hide
-- Index: documents_pkey.
UPDATE documents SET revision = NULL, outline = NULL WHERE key = %(key)s

-- name: sample
-- A random point of each of some documents drawn at random.
SELECT document_id, revision, floor(random() * chunks)::integer FROM documents
WHERE NOT removed AND chunks > 0 AND revision IS NOT NULL ORDER BY random() LIMIT %(count)s
