-- Where each document is from and on which day (UTC) it was changed, for questions to some of them. `sources`: the folders of its
-- external id, from the outermost on. Of documents that were indexed before, the day of indexing stands for the other, and where they
-- are from is known when they are indexed anew.

CREATE FUNCTION add_sources_and_days(generation integer) RETURNS void LANGUAGE plpgsql AS $add$
BEGIN
    PERFORM set_config('search_path', 'generation_' || generation || ', ' || current_setting('search_path'), true);
    ALTER TABLE documents ADD COLUMN sources text[] NOT NULL DEFAULT '{}', ADD COLUMN changed_on date;
    UPDATE documents SET changed_on = (applied_at AT TIME ZONE 'UTC')::date WHERE NOT removed;
    CREATE INDEX documents_sources ON documents USING gin (sources);

    -- Access control, in one place: every search arm reads documents through this function, which the planner inlines.
    DROP FUNCTION readable(boolean, text[], text[], text[]);
    CREATE FUNCTION readable(
        everything boolean, scope text[], only_ids text[], only_tags text[],
        only_sources text[] DEFAULT NULL, since date DEFAULT NULL, until date DEFAULT NULL
    ) RETURNS SETOF documents LANGUAGE sql STABLE AS $readable$
        SELECT d.* FROM documents d
        WHERE (everything OR d.readers && scope)
          AND (only_ids IS NULL OR d.document_id = ANY (only_ids))
          AND (only_tags IS NULL OR d.tags @> only_tags)
          AND (only_sources IS NULL OR d.sources && only_sources)
          AND (since IS NULL OR d.changed_on >= since)
          AND (until IS NULL OR d.changed_on <= until)
          AND NOT d.removed
    $readable$;
END
$add$;

SELECT set_config('refdesk.search_path', current_setting('search_path'), true);
DO $existing$
DECLARE
    generation integer;
BEGIN
    FOR generation IN SELECT id FROM generations LOOP
        PERFORM add_sources_and_days(generation);
        PERFORM set_config('search_path', current_setting('refdesk.search_path'), true);
    END LOOP;
END
$existing$;

CREATE OR REPLACE FUNCTION create_generation(generation integer, dimensions integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_generation_tables(generation, dimensions);
    PERFORM add_reading_notes(generation);
    PERFORM add_sources_and_days(generation);
END
$create$;

CREATE OR REPLACE FUNCTION create_ledger(generation integer) RETURNS void LANGUAGE plpgsql AS $create$
BEGIN
    PERFORM create_ledger_tables(generation);
    PERFORM create_ledger_postings(generation);
    PERFORM add_reading_notes(generation);
    PERFORM add_sources_and_days(generation);
END
$create$;
