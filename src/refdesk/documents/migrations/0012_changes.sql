-- What has changed, counted, so that others know whether anything has (`epoch` of `standing`). Nobody waits for anybody: each change of
-- documents adds a row of its own, and one transaction at a time counts rows together.

CREATE TABLE document_changes (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at              timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE document_changes_counted (
    changes         bigint NOT NULL
);

INSERT INTO document_changes_counted VALUES (0);

-- Those that change no row are no change.
CREATE FUNCTION note_document_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
    counted bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    INSERT INTO document_changes DEFAULT VALUES RETURNING id INTO added;
    IF added % 64 = 0 AND pg_try_advisory_xact_lock(hashtextextended('refdesk.document_changes', 0)) THEN
        WITH gone AS (DELETE FROM document_changes WHERE id < added - 64 RETURNING id)
        SELECT count(*) INTO counted FROM gone;
        UPDATE document_changes_counted SET changes = changes + counted;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER documents_inserted AFTER INSERT ON documents REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_document_change();
CREATE TRIGGER documents_updated AFTER UPDATE ON documents REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_document_change();
CREATE TRIGGER documents_deleted AFTER DELETE ON documents REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_document_change();
