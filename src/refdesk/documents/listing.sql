-- Listings of documents. They are planned anew each time: what is NULL, and every order that is not asked for, is gone from the plan
-- before an index is chosen.

-- name: documents_titled
-- Some of those that have a part of a title, or all. No index: what is read is small.
SELECT document_id FROM document_titles WHERE titles LIKE lower(%(title_like)s) LIMIT %(count)s;

-- name: list_documents
-- `after` is the last id of the page before; of other orders than by age, its key goes with it. Index: documents_live, documents_changed,
-- documents_title or documents_bytes by the order; documents_pkey where `ids` are few; documents_state, documents_tags, documents_audience, documents_owner or
-- documents_external_id_order where a filter is narrow.
SELECT *, CASE WHEN state = 'pending' THEN explain_waiting(
           id, (SELECT front_of_queue(%(counted_max)s)), %(publish_s_max)s, %(silence_s_max)s) END AS waiting,
       lower(coalesce(own_title, title)) AS title_key
FROM current_documents
WHERE (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(tag)s::text IS NULL OR tags @> ARRAY[%(tag)s::text])
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (%(source)s::text IS NULL OR (external_id COLLATE "C" >= %(source)s AND external_id COLLATE "C" < %(source_end)s))
  AND (%(since)s::timestamptz IS NULL OR updated_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR updated_at < %(until)s)
  AND (%(ids)s::text[] IS NULL OR id = ANY (%(ids)s::text[]))
  AND (%(title_part)s::text IS NULL OR position(lower(%(title_part)s) IN lower(title)) > 0
       OR position(lower(%(title_part)s) IN lower(own_title)) > 0)
  AND (%(everything)s OR audience && %(readers)s)
  AND CASE WHEN %(after)s::text IS NULL THEN true
           WHEN %(sort)s::text = 'newest' THEN id < %(after)s
           WHEN %(sort)s = 'oldest' THEN id > %(after)s
           WHEN %(sort)s = 'changed' THEN (updated_at, id) < (%(after_time)s::timestamptz, %(after)s)
           WHEN %(sort)s = 'title' THEN (lower(coalesce(own_title, title)), id) > (%(after_title)s::text, %(after)s)
           ELSE (content_bytes, id) < (%(after_bytes)s::bigint, %(after)s) END
ORDER BY CASE WHEN %(sort)s = 'oldest' THEN id END,
         CASE WHEN %(sort)s = 'changed' THEN updated_at END DESC,
         CASE WHEN %(sort)s = 'title' THEN lower(coalesce(own_title, title)) END,
         CASE WHEN %(sort)s = 'title' THEN id END,
         CASE WHEN %(sort)s = 'largest' THEN content_bytes END DESC,
         id DESC
LIMIT %(count)s;

-- name: count_documents
-- How many a listing has on all its pages, and the state of the documents that they were counted in (`epoch`). Index: as above.
SELECT count(*) AS total,
       (SELECT epoch FROM document_epoch) AS epoch
FROM current_documents
WHERE (%(state)s::text IS NULL OR state = %(state)s)
  AND (%(tag)s::text IS NULL OR tags @> ARRAY[%(tag)s::text])
  AND (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (%(source)s::text IS NULL OR (external_id COLLATE "C" >= %(source)s AND external_id COLLATE "C" < %(source_end)s))
  AND (%(since)s::timestamptz IS NULL OR updated_at >= %(since)s)
  AND (%(until)s::timestamptz IS NULL OR updated_at < %(until)s)
  AND (%(ids)s::text[] IS NULL OR id = ANY (%(ids)s::text[]))
  AND (%(title_part)s::text IS NULL OR position(lower(%(title_part)s) IN lower(title)) > 0
       OR position(lower(%(title_part)s) IN lower(own_title)) > 0)
  AND (%(everything)s OR audience && %(readers)s);

-- name: epoch
SELECT epoch FROM document_epoch;
