-- The index in PostgreSQL. Tables are those of a generation's schema, which comes first in the search path (`generations.enter`).

-- name: claim_version
-- Apply-if-newer: no row comes back when the index has this version or a later one. The same version with other content is
-- newer, too: documents that were restored from a backup have counted to that number anew (a tombstone has no content).
-- Locks the document's row, so that of several processes with the same document one works and the others wait. `removed`,
-- `chunks` and `terms` come back as they were; `settle` sets them. A row is born removed: there is nothing of it yet.
INSERT INTO documents (document_id, version, title, readers, tags, sources, changed_on, media_type, url, content_sha256, notes, removed)
VALUES (%(document_id)s, %(version)s, %(title)s, %(readers)s, %(tags)s, %(sources)s, %(changed_on)s, %(media_type)s, %(url)s,
        %(content_sha256)s, %(notes)s::jsonb, true)
ON CONFLICT (document_id) DO UPDATE
SET version = excluded.version, title = excluded.title, readers = excluded.readers, tags = excluded.tags,
    sources = excluded.sources, changed_on = excluded.changed_on,
    media_type = excluded.media_type, url = excluded.url, content_sha256 = excluded.content_sha256, notes = excluded.notes,
    applied_at = now()
WHERE documents.version < excluded.version
   OR documents.version = excluded.version AND '' NOT IN (documents.content_sha256, excluded.content_sha256)
      AND documents.content_sha256 <> excluded.content_sha256
RETURNING key, removed, chunks, terms

-- name: add_unborn
-- The row of a document that is about to come for the first time: of no version, -1, and removed as far as anybody sees.
INSERT INTO documents (document_id, version, removed) VALUES (%(document_id)s, -1, true)
ON CONFLICT (document_id) DO NOTHING

-- name: lock_older
-- No row comes back when the index has this version or a later one. Index: documents_document_id_key.
SELECT key FROM documents WHERE document_id = %(document_id)s AND version < %(version)s FOR NO KEY UPDATE

-- name: settle
-- The document's own state, at the end of its change.
UPDATE documents SET removed = %(removed)s, chunks = %(chunks)s, terms = %(terms)s WHERE key = %(key)s

-- name: chunk_outline
-- Index: chunks_pkey.
SELECT ordinal, hash, page, start_offset, end_offset FROM chunks
WHERE document_key = %(key)s ORDER BY ordinal LIMIT %(chunks_max)s

-- name: vector_hashes
-- Which of these are there. Index: vectors_pkey.
SELECT hash FROM vectors WHERE document_key = %(key)s AND hash = ANY (%(hashes)s::bytea[])
LIMIT cardinality(%(hashes)s::bytea[])

-- name: delete_chunks
DELETE FROM chunks WHERE document_key = %(key)s

-- name: delete_postings
DELETE FROM postings WHERE document_key = %(key)s

-- name: delete_vectors_except
DELETE FROM vectors WHERE document_key = %(key)s AND hash <> ALL (%(hashes)s::bytea[])

-- name: delete_vectors
DELETE FROM vectors WHERE document_key = %(key)s

-- name: copy_vectors
COPY vectors (document_key, hash, embedding) FROM STDIN (FORMAT binary)

-- name: insert_chunks
INSERT INTO chunks (document_key, ordinal, hash, text, heading, page, start_offset, end_offset)
SELECT %(key)s, c.*
FROM unnest(%(ordinals)s::integer[], %(hashes)s::bytea[], %(texts)s::text[], %(headings)s::text[],
            %(pages)s::integer[], %(starts)s::integer[], %(ends)s::integer[]) AS c

-- name: insert_postings
-- Terms of title, heading and text of each chunk from `first` to before `end`, and of their further spellings (`spellings`),
-- packed by blocks of 64 chunks. Index: chunks_pkey.
WITH terms AS MATERIALIZED (
    SELECT c.ordinal, t.lexeme, cardinality(t.positions) AS frequency,
           sum(cardinality(t.positions)) OVER (PARTITION BY c.ordinal) AS length
    FROM chunks c
    JOIN unnest(%(ordinals)s::integer[], %(spellings)s::text[]) AS more (ordinal, spellings) USING (ordinal)
    CROSS JOIN LATERAL unnest(
        to_tsvector(%(text_search)s::regconfig,
                    concat_ws(E'\n', %(title)s::text, c.heading, c.text, more.spellings))) AS t
    WHERE c.document_key = %(key)s AND c.ordinal >= %(first)s AND c.ordinal < %(end)s
), inserted AS (
    INSERT INTO postings (document_key, block, term, entries)
    SELECT %(key)s, ordinal / 64, lexeme,
           array_agg(((ordinal %% 64) << 24) | (least(frequency, 255) << 16) | least(length, 65535)::integer
                     ORDER BY ordinal)
    FROM terms GROUP BY ordinal / 64, lexeme
    ORDER BY lexeme
)
SELECT coalesce(sum(frequency), 0)::bigint FROM terms

-- name: known_vectors
-- Index: vectors_pkey.
SELECT v.hash, v.embedding FROM documents d JOIN vectors v ON v.document_key = d.key
WHERE d.document_id = %(document_id)s LIMIT %(chunks_max)s

-- name: passages
-- Index: documents_document_id_key, chunks_pkey. One row with a null ordinal when the document has no chunks.
SELECT d.document_id, d.version, d.title, d.readers, d.tags, d.sources, d.changed_on, d.media_type, d.url, d.content_sha256,
       c.ordinal, c.text, c.heading, c.page, c.start_offset, c.end_offset
FROM readable(%(everything)s, %(readers)s, %(document_ids)s, NULL) d
LEFT JOIN chunks c ON c.document_key = d.key
ORDER BY c.ordinal LIMIT %(chunks_max)s

-- name: page
-- In the order of ids; not what is only staged. `whole` is whether all is there that a search needs: as many chunks as were written, a vector for
-- each, and postings. Index: documents_document_id_key; per document chunks_pkey, vectors_pkey, postings_document.
SELECT d.document_id, d.version, d.removed, d.readers, d.tags, d.content_sha256,
       d.removed OR (
           (SELECT count(*) FROM chunks c WHERE c.document_key = d.key) = d.chunks
           AND NOT EXISTS (
               SELECT FROM chunks c WHERE c.document_key = d.key AND NOT EXISTS (
                   SELECT FROM vectors v WHERE v.document_key = c.document_key AND v.hash = c.hash))
           AND (d.terms = 0 OR EXISTS (SELECT FROM postings p WHERE p.document_key = d.key))
       ) AS whole
FROM documents d
WHERE d.document_id > %(after)s AND d.version >= 0
ORDER BY d.document_id
LIMIT %(count)s

-- name: of
-- The same of documents that are named. Index: documents_document_id_key, and those of `page`.
SELECT d.document_id, d.version, d.removed, d.readers, d.tags, d.content_sha256,
       d.removed OR (
           (SELECT count(*) FROM chunks c WHERE c.document_key = d.key) = d.chunks
           AND NOT EXISTS (
               SELECT FROM chunks c WHERE c.document_key = d.key AND NOT EXISTS (
                   SELECT FROM vectors v WHERE v.document_key = c.document_key AND v.hash = c.hash))
           AND (d.terms = 0 OR EXISTS (SELECT FROM postings p WHERE p.document_key = d.key))
       ) AS whole
FROM documents d
WHERE d.document_id = ANY (%(document_ids)s) AND d.version >= 0
LIMIT cardinality(%(document_ids)s::text[])

-- name: reopen
-- Only as it was seen: a version that was applied meanwhile stays. Index: documents_document_id_key.
UPDATE documents SET version = %(version)s, readers = %(readers)s
WHERE document_id = %(document_id)s AND version = %(seen_version)s
RETURNING key

-- name: sample
-- Passages of documents drawn at random, one of each. Index: chunks_pkey.
SELECT d.document_id, c.text
FROM (SELECT key, document_id, chunks FROM documents
      WHERE NOT removed AND chunks > 0 ORDER BY random() LIMIT %(count)s) d
JOIN LATERAL (SELECT text FROM chunks c WHERE c.document_key = d.key AND c.ordinal >= floor(random() * d.chunks)
              ORDER BY c.ordinal LIMIT 1) c ON true
LIMIT %(count)s
