-- Receipts of syncs. `silence_s_max`: how long one may be silent before it counts as stopped.

-- name: begin_sync
INSERT INTO syncs (id, owner, source, started_by) VALUES (%(id)s, %(owner)s, %(source)s, %(started_by)s);

-- name: count_running
-- Others of the same source. Index: syncs_source.
SELECT count(*) AS running FROM syncs
WHERE owner = %(owner)s AND source = %(source)s AND id <> %(id)s AND NOT finished
  AND heard_at > clock_timestamp() - make_interval(secs => %(silence_s_max)s);

-- name: forget_older
-- Of this source, all but the newest. Index: syncs_source.
DELETE FROM syncs WHERE id IN (
    SELECT id FROM syncs WHERE owner = %(owner)s AND source = %(source)s ORDER BY id DESC OFFSET %(kept)s
);

-- name: forget_sources
-- Of this owner, the sources beyond the limit that were not synced for the longest time. Index: syncs_source.
DELETE FROM syncs WHERE owner = %(owner)s AND source IN (
    SELECT source FROM syncs WHERE owner = %(owner)s GROUP BY source ORDER BY max(id) DESC OFFSET %(sources_max)s
);

-- name: tell_sync
-- Index: syncs_pkey.
UPDATE syncs
SET heard_at = clock_timestamp(), finished = %(finished)s, problem = %(problem)s, counts = %(counts)s,
    entries = %(entries)s, entries_left_off = %(entries_left_off)s
WHERE id = %(id)s
RETURNING id;

-- name: owner_of_sync
-- Index: syncs_pkey.
SELECT owner FROM syncs WHERE id = %(id)s;

-- name: list_syncs
-- Newest first: of one source all, else of each source the newest; of one owner, or of all. Index: syncs_pkey, backwards, or
-- syncs_source where there is an owner.
SELECT id, owner, source, started_by, started_at, heard_at, problem, counts,
       finished, heard_at < clock_timestamp() - make_interval(secs => %(silence_s_max)s) AS silent
FROM syncs s
WHERE (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND CASE WHEN %(source)s::text IS NULL
           THEN NOT EXISTS (SELECT 1 FROM syncs n WHERE n.owner = s.owner AND n.source = s.source AND n.id > s.id)
           ELSE source = %(source)s END
ORDER BY id DESC
LIMIT %(count)s;

-- name: read_sync
-- Index: syncs_pkey.
SELECT id, owner, source, started_by, started_at, heard_at, problem, counts, entries, entries_left_off,
       finished, heard_at < clock_timestamp() - make_interval(secs => %(silence_s_max)s) AS silent
FROM syncs WHERE id = %(id)s;

-- name: count_states
-- Of what an owner has below a source. Index: documents_external_id_order.
SELECT state, count(*) AS documents FROM current_documents
WHERE external_id COLLATE "C" > %(after)s AND external_id COLLATE "C" < %(below)s AND owner = %(owner)s
GROUP BY state
LIMIT 3;

-- name: list_failures
-- Index: documents_external_id_order.
SELECT external_id, failure FROM current_documents
WHERE external_id COLLATE "C" > %(after)s AND external_id COLLATE "C" < %(below)s AND owner = %(owner)s
  AND state = 'failed'
ORDER BY external_id COLLATE "C"
LIMIT %(count)s;

-- name: list_noted
-- Index: documents_external_id_order.
SELECT external_id, notes FROM current_documents
WHERE external_id COLLATE "C" > %(after)s AND external_id COLLATE "C" < %(below)s AND owner = %(owner)s
  AND notes <> '[]'
ORDER BY external_id COLLATE "C"
LIMIT %(count)s;
