-- What is to be known of how each version was read, kept with the version: whoever tells of it again tells that, too. Null: not
-- known, of a version that an earlier release wrote.
CREATE FUNCTION add_reading_notes(generation integer) RETURNS void LANGUAGE plpgsql AS $add$
BEGIN
    EXECUTE format('ALTER TABLE %I.documents ADD COLUMN notes jsonb', 'generation_' || generation);
END
$add$;

ALTER FUNCTION create_generation(integer, integer) RENAME TO create_generation_tables;

CREATE FUNCTION create_generation(generation integer, dimensions integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_generation_tables(generation, dimensions);
    PERFORM add_reading_notes(generation);
END
$create$;

CREATE OR REPLACE FUNCTION create_ledger(generation integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_ledger_tables(generation);
    PERFORM create_ledger_postings(generation);
    PERFORM add_reading_notes(generation);
END
$create$;

SELECT add_reading_notes(id) FROM generations;
