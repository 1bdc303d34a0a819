-- What is asked of the index before a search. Tables are those of a generation's schema (`generations.enter`).

-- name: look
-- What a search has to know, in a row for each term of the question, and one row at least: how many documents and chunks may
-- be read, counted up to a bound (beyond it, the exact number does not matter); the sizes of the index; the term, how often
-- the question has it, and how many index rows and chunks have it, counted up to a bound of rows.
SELECT scope.documents, scope.chunks, index.documents, index.chunks, index.terms,
       term.lexeme, cardinality(term.positions), term.rows, term.chunks
FROM (SELECT count(*) AS documents, coalesce(sum(chunks), 0)::bigint AS chunks
      FROM (SELECT d.chunks FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s, %(sources)s, %(since)s, %(until)s) d
            LIMIT %(documents_max)s) AS counted) AS scope
CROSS JOIN (SELECT sum(documents)::bigint AS documents, sum(chunks)::bigint AS chunks, sum(terms)::bigint AS terms
            FROM tallies) AS index
LEFT JOIN (SELECT t.lexeme, t.positions, known.rows, known.chunks
           FROM unnest(to_tsvector(%(text_search)s::regconfig, %(text)s)) AS t
           CROSS JOIN LATERAL (
               SELECT count(*) AS rows, coalesce(sum(cardinality(p.entries)), 0)::bigint AS chunks
               FROM (SELECT entries FROM postings WHERE term = t.lexeme COLLATE "C" LIMIT %(rows_max)s) AS p
           ) AS known
           LIMIT %(terms_max)s) AS term ON true
LIMIT %(terms_max)s

-- name: term_chunks
-- How many chunks have each of some very common terms. Index: postings_term.
SELECT p.term, sum(cardinality(p.entries))::bigint FROM postings p
WHERE p.term = ANY (%(terms)s::text[]) GROUP BY p.term LIMIT cardinality(%(terms)s::text[])

-- name: likeliest_term
-- Of the terms of some words the likeliest that the index has, and how many chunks have it. Index: postings_term.
SELECT t.lexeme, sum(cardinality(p.entries))::bigint AS chunks
FROM unnest(to_tsvector(%(text_search)s::regconfig, %(words)s)) AS t
JOIN postings p ON p.term = t.lexeme COLLATE "C"
GROUP BY t.lexeme ORDER BY starts_with(t.lexeme, %(first)s) DESC, chunks DESC, t.lexeme LIMIT 1

-- name: vocabulary
-- The terms from one on, in order, each by one step into the index. Index: postings_term.
WITH RECURSIVE known (term, place) AS (
    (SELECT p.term, 1 FROM postings p WHERE p.term >= %(first)s::text COLLATE "C" ORDER BY p.term LIMIT 1)
    UNION ALL
    (SELECT (SELECT p.term FROM postings p WHERE p.term > k.term ORDER BY p.term LIMIT 1), k.place + 1
     FROM known k WHERE starts_with(k.term, %(first)s::text) AND k.place < %(terms_max)s)
)
SELECT term FROM known WHERE starts_with(term, %(first)s::text) LIMIT %(terms_max)s
