-- What the words of a question are looked up in is the same in every generation: in one of Qdrant, a view of its terms. Its
-- entries are as many as there are chunks with the term, and say no more.
ALTER FUNCTION create_ledger(integer) RENAME TO create_ledger_tables;

CREATE FUNCTION create_ledger_postings(generation integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    EXECUTE format(
        'CREATE VIEW %I.postings AS
         SELECT document_key, 0 AS block, term, array_fill(0, ARRAY[chunks]) AS entries FROM %I.document_terms',
        'generation_' || generation, 'generation_' || generation);
END
$create$;

CREATE FUNCTION create_ledger(generation integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_ledger_tables(generation);
    PERFORM create_ledger_postings(generation);
END
$create$;

SELECT create_ledger_postings(id) FROM generations WHERE engine = 'qdrant';
