-- The past that the index shares with the documents and the broker. `lineage` has one row.

-- name: recall
SELECT stream_created_at, recorded, notes, newest_id, newest_version, newest_content, doubt FROM lineage

-- name: begin_stream
-- Another stream counts anew.
UPDATE lineage SET stream_created_at = %(created_at)s, recorded = %(recorded)s

-- name: doubt
UPDATE lineage SET doubt = %(doubt)s WHERE doubt IS DISTINCT FROM %(doubt)s

-- name: forget_standings
-- They may be of a time that was lost; who tells the documents again tells them anew.
DELETE FROM standings

-- name: settle
-- Both have one past again.
UPDATE lineage SET doubt = NULL, newest_id = NULL, newest_version = NULL, newest_content = NULL, newest_at = NULL,
                   recorded = greatest(recorded, %(recorded)s)

-- name: eldest
-- Some documents that have long been here. `documents` is a generation's. Index: documents_pkey.
SELECT document_id FROM documents WHERE NOT removed AND version > 0 ORDER BY key LIMIT %(count)s
