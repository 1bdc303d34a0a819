-- What is asked of the ledger before a search. Tables are those of a generation's schema (`generations.enter`).

-- name: look
-- What a search has to know, in a row for each term of the question, and one row at least: how many documents and chunks may
-- be read, counted up to a bound (beyond it, the exact number does not matter); the sizes of the index; the term, how often
-- the question has it, and how many index rows and chunks have it, counted up to a bound of rows.
SELECT scope.documents, scope.chunks, index.documents, index.chunks, index.terms,
       term.lexeme, cardinality(term.positions), term.rows, term.chunks
FROM (SELECT count(*) AS documents, coalesce(sum(chunks), 0)::bigint AS chunks
      FROM (SELECT d.chunks FROM readable(%(everything)s, %(readers)s, %(document_ids)s, %(tags)s) d
            LIMIT %(documents_max)s) AS counted) AS scope
CROSS JOIN (SELECT sum(documents)::bigint AS documents, sum(chunks)::bigint AS chunks, sum(terms)::bigint AS terms
            FROM tallies) AS index
LEFT JOIN (SELECT t.lexeme, t.positions, known.rows, known.chunks
           FROM unnest(to_tsvector(%(text_search)s::regconfig, %(text)s)) AS t
           CROSS JOIN LATERAL (
               SELECT count(*) AS rows, coalesce(sum(d.chunks), 0)::bigint AS chunks
               FROM (SELECT chunks FROM document_terms WHERE term = t.lexeme COLLATE "C" LIMIT %(rows_max)s) AS d
           ) AS known
           LIMIT %(terms_max)s) AS term ON true
LIMIT %(terms_max)s

-- name: term_chunks
-- How many chunks have each of some very common terms. Index: document_terms_term.
SELECT d.term, sum(d.chunks)::bigint FROM document_terms d
WHERE d.term = ANY (%(terms)s::text[]) GROUP BY d.term LIMIT cardinality(%(terms)s::text[])

-- name: known_terms
-- Which of these the index has, and how many chunks have each. Index: document_terms_term.
SELECT d.term, sum(d.chunks)::bigint AS chunks FROM document_terms d
WHERE d.term = ANY (%(terms)s::text[]) GROUP BY d.term ORDER BY chunks DESC, d.term LIMIT %(terms_max)s

-- name: vocabulary
-- The terms from one on, in order, each by one step into the index. Index: document_terms_term.
WITH RECURSIVE known (term, place) AS (
    (SELECT d.term, 1 FROM document_terms d WHERE d.term >= %(first)s::text COLLATE "C" ORDER BY d.term LIMIT 1)
    UNION ALL
    (SELECT (SELECT d.term FROM document_terms d WHERE d.term > k.term ORDER BY d.term LIMIT 1), k.place + 1
     FROM known k WHERE starts_with(k.term, %(first)s::text) AND k.place < %(terms_max)s)
)
SELECT term FROM known WHERE starts_with(term, %(first)s::text) LIMIT %(terms_max)s
