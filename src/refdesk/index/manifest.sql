-- What the index holds of each document, for comparing it with the Document Service. Tables are a generation's, which
-- comes first in the search path (`generations.enter`).

-- name: page
-- In the order of keys; not what is only staged. `whole` is whether all is there that a search needs: as many chunks as were written, a vector for
-- each, and postings. Index: documents_pkey; per document chunks_pkey, vectors_pkey, postings_document.
SELECT d.key, d.document_id, d.version, d.removed, d.readers, d.tags, d.content_sha256,
       d.removed OR (
           (SELECT count(*) FROM chunks c WHERE c.document_key = d.key) = d.chunks
           AND NOT EXISTS (
               SELECT FROM chunks c WHERE c.document_key = d.key AND NOT EXISTS (
                   SELECT FROM vectors v WHERE v.document_key = c.document_key AND v.hash = c.hash))
           AND (d.terms = 0 OR EXISTS (SELECT FROM postings p WHERE p.document_key = d.key))
       ) AS whole
FROM documents d
WHERE d.key > %(after)s AND d.version >= 0
ORDER BY d.key
LIMIT %(count)s

-- name: of
-- The same of documents that are named. Index: documents_document_id_key, and those of `page`.
SELECT d.key, d.document_id, d.version, d.removed, d.readers, d.tags, d.content_sha256,
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
-- Only as it was seen: a version that was applied meanwhile stays. Index: documents_pkey.
UPDATE documents SET version = %(version)s, readers = %(readers)s
WHERE key = %(key)s AND version = %(seen_version)s
RETURNING key

-- name: delete_chunks
-- Index: chunks_pkey.
DELETE FROM chunks WHERE document_key = %(key)s

-- name: delete_postings
-- Index: postings_document.
DELETE FROM postings WHERE document_key = %(key)s
