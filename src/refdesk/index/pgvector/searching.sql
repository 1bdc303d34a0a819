-- A search of the index in PostgreSQL. Tables are those of a generation's schema, which comes first in the search path (`generations.enter`).
-- It asks for the nearest chunks first, then for the words of these and for the chunks that have the best words.

-- name: begin_search
-- All that follows sees one state of the index.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: prefer_graph
-- The planner believes that comparing and sorting everything is cheaper than the graph, up to a million vectors. Iterative: a
-- scan that meets too few readable rows goes on, up to a bound.
SELECT set_config('enable_sort', 'off', true),
       set_config('hnsw.iterative_scan', 'relaxed_order', true),
       set_config('hnsw.ef_search', %(ef_search)s::text, true),
       set_config('hnsw.max_scan_tuples', %(scan_tuples_max)s::text, true)

-- name: prefer_nothing
SELECT set_config('enable_sort', 'on', true)

-- name: near
-- The nearest readable chunks, by the HNSW graph; a vector that was staged has no chunk yet. The lateral look-up keeps the scan
-- in the graph's order, so that it stops as soon as enough readable ones were met. Index: vectors_embedding.
WITH nearest AS MATERIALIZED (
    SELECT v.document_key, allowed.ordinal, v.distance
    FROM (SELECT document_key, hash, embedding <#> %(vector)s::halfvec AS distance
          FROM vectors ORDER BY embedding <#> %(vector)s::halfvec) AS v
    CROSS JOIN LATERAL (
        SELECT c.ordinal FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
        JOIN chunks c ON c.document_key = d.key AND c.hash = v.hash
        WHERE d.key = v.document_key OFFSET 0) AS allowed
    LIMIT %(depth)s
)
SELECT document_key, ordinal, -distance FROM nearest ORDER BY distance, document_key, ordinal LIMIT %(depth)s

-- name: near_exact
-- The nearest readable chunks, by comparing all of them. Index: vectors_pkey, chunks_hash; adding nothing keeps the planner
-- from reading the graph instead, which would end early. Chunks are looked up in order of distance until there are enough.
WITH allowed AS MATERIALIZED (
    SELECT d.key FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
), nearest AS MATERIALIZED (
    SELECT v.document_key, c.ordinal, v.distance
    FROM (SELECT v.document_key, v.hash, (v.embedding <#> %(vector)s::halfvec) + 0 AS distance
          FROM allowed a JOIN vectors v ON v.document_key = a.key
          ORDER BY distance) AS v
    CROSS JOIN LATERAL (
        SELECT c.ordinal FROM chunks c WHERE c.document_key = v.document_key AND c.hash = v.hash OFFSET 0) AS c
    LIMIT %(depth)s
)
SELECT document_key, ordinal, -distance FROM nearest ORDER BY distance, document_key, ordinal LIMIT %(depth)s

-- The words of chunks come as (document_key, ordinal, words, similarity), in any order: of each of the near ones, without a
-- similarity, and of those that BM25 puts first, with it. `words` is the BM25 score.

-- name: words
-- BM25 in two steps: the rare terms choose candidates, which are looked up by readers best first until there are enough; the
-- common terms only add to the scores of these and of the near ones. Index: postings_term.
WITH near AS MATERIALIZED (
    SELECT * FROM unnest(%(near_keys)s::bigint[], %(near_ordinals)s::integer[]) AS n (document_key, ordinal)
), rare AS MATERIALIZED (
    SELECT e.document_key, e.block * 64 + (e.entry >> 24) AS ordinal, sum(bm25(e.weight, e.entry, %(floor)s, %(slope)s)) AS words
    FROM (SELECT p.document_key, p.block, q.weight, unnest(p.entries) AS entry
          FROM unnest(%(rare_terms)s::text[], %(rare_weights)s::float8[]) AS q (term, weight)
          JOIN postings p ON p.term = q.term COLLATE "C") AS e
    GROUP BY 1, 2
), candidates AS MATERIALIZED (
    SELECT r.document_key, r.ordinal
    FROM (SELECT * FROM rare ORDER BY words DESC) AS r
    CROSS JOIN LATERAL (
        SELECT 1 FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
        WHERE d.key = r.document_key OFFSET 0) AS allowed
    ORDER BY r.words DESC LIMIT %(candidates_max)s
), scored AS MATERIALIZED (
    SELECT f.document_key, f.ordinal, coalesce(r.words, 0) + common.words AS words
    FROM (SELECT * FROM near UNION SELECT * FROM candidates) AS f
    LEFT JOIN rare r USING (document_key, ordinal)
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(bm25(e.weight, e.entry, %(floor)s, %(slope)s)), 0) AS words
        FROM (SELECT q.weight, unnest(p.entries) AS entry
              FROM unnest(%(common_terms)s::text[], %(common_weights)s::float8[]) AS q (term, weight)
              JOIN postings p ON p.term = q.term COLLATE "C" AND p.document_key = f.document_key AND p.block = f.ordinal / 64
             ) AS e
        WHERE e.entry >> 24 = f.ordinal %% 64) AS common
), best AS MATERIALIZED (
    SELECT document_key, ordinal, words FROM candidates JOIN scored USING (document_key, ordinal)
    ORDER BY words DESC, document_key, ordinal LIMIT %(depth)s
)
SELECT document_key, ordinal, words, NULL FROM near JOIN scored USING (document_key, ordinal)
UNION ALL
SELECT document_key, ordinal, words, -(embedding <#> %(vector)s::halfvec)
FROM best JOIN chunks USING (document_key, ordinal) JOIN vectors USING (document_key, hash)
LIMIT 2 * %(depth)s

-- name: words_exact
-- BM25 with every term, over few documents. Index: postings_term.
WITH near AS MATERIALIZED (
    SELECT * FROM unnest(%(near_keys)s::bigint[], %(near_ordinals)s::integer[]) AS n (document_key, ordinal)
), allowed AS MATERIALIZED (
    SELECT d.key FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
), scored AS MATERIALIZED (
    SELECT e.document_key, e.block * 64 + (e.entry >> 24) AS ordinal, sum(bm25(e.weight, e.entry, %(floor)s, %(slope)s)) AS words
    FROM (SELECT p.document_key, p.block, q.weight, unnest(p.entries) AS entry
          FROM allowed a
          CROSS JOIN unnest(%(rare_terms)s::text[] || %(common_terms)s::text[],
                            %(rare_weights)s::float8[] || %(common_weights)s::float8[]) AS q (term, weight)
          JOIN postings p ON p.term = q.term COLLATE "C" AND p.document_key = a.key) AS e
    GROUP BY 1, 2
), best AS MATERIALIZED (
    SELECT * FROM scored ORDER BY words DESC, document_key, ordinal LIMIT %(depth)s
)
SELECT document_key, ordinal, words, NULL FROM near JOIN scored USING (document_key, ordinal)
UNION ALL
SELECT document_key, ordinal, words, -(embedding <#> %(vector)s::halfvec)
FROM best JOIN chunks USING (document_key, ordinal) JOIN vectors USING (document_key, hash)
LIMIT 2 * %(depth)s

-- name: digests
-- Of chunks, what is equal for equal texts, whatever their spaces and capitals. Index: chunks_pkey.
SELECT f.document_key, f.ordinal, md5(lower(regexp_replace(c.text, '\s+', ' ', 'g')))
FROM unnest(%(keys)s::bigint[], %(ordinals)s::integer[]) AS f (document_key, ordinal)
JOIN chunks c ON c.document_key = f.document_key AND c.ordinal = f.ordinal
LIMIT cardinality(%(keys)s::bigint[])

-- name: fetch_passages
-- Index: the primary keys. Rows come in any order; `place` is their rank, from 1.
SELECT f.place, d.document_id, d.version, d.content_sha256, d.title, d.url, c.ordinal, c.text, c.heading, c.page
FROM unnest(%(keys)s::bigint[], %(ordinals)s::integer[]) WITH ORDINALITY AS f (document_key, ordinal, place)
JOIN readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d ON d.key = f.document_key
JOIN chunks c ON c.document_key = f.document_key AND c.ordinal = f.ordinal
LIMIT cardinality(%(keys)s::bigint[])
