-- What every generation's ledger says, whichever engine keeps its vectors and text. Tables are those of the generation's
-- schema, which comes first in the search path (`generations.enter`).

-- name: announce
SELECT pg_notify('refdesk_index', %(document_id)s || '@' || %(version)s::text)

-- name: tally
-- The last statement that locks anything: the slot is held for a moment only.
UPDATE tallies
SET documents = documents + %(documents)s, chunks = chunks + %(chunks)s, terms = terms + %(terms)s
WHERE slot = pg_backend_pid() %% 64

-- name: sizes
-- At most 64 rows.
SELECT sum(documents)::bigint, sum(chunks)::bigint, sum(terms)::bigint FROM tallies

-- name: versions
-- Index: documents_document_id_key.
SELECT document_id, version FROM documents
WHERE document_id = ANY (%(document_ids)s) AND version >= 0 LIMIT cardinality(%(document_ids)s::text[])

-- name: held
-- Index: documents_document_id_key.
SELECT version, content_sha256, title, notes FROM documents WHERE document_id = %(document_id)s AND version >= 0

-- name: epoch
-- Which transaction has written each slot last: every change writes one (`tally`, `touch`). At most 64 rows. And whether the
-- generation is active (null: it is gone). The table is named in full, so that no transaction has to enter the schema.
SELECT md5(string_agg(slot || ' ' || xmin::text, ' ' ORDER BY slot)),
       (SELECT g.active FROM generations g WHERE g.id = %(id)s)
FROM {tallies}

-- name: touch
-- A change that leaves all sizes as they are. Like `tally`, the last statement that locks anything.
UPDATE tallies SET documents = documents WHERE slot = pg_backend_pid() %% 64
